"""Rows out of files of people: CSV, TSV, JSON lines, Parquet, folders of them; one set of rules."""
