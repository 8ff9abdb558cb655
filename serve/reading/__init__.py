"""Rows of text and Parquet files, read by one set of rules; `files.open_source` opens a file."""
