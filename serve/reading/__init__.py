"""Rows out of CSV, TSV, Parquet, and folders of them, by one set of rules; `files.open_source` opens one."""
