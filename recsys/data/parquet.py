"""Ratings out of a Parquet file."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
from pyarrow import parquet

from recsys.data.columns import Columns
from recsys.data.ratings_table import RatingsTable, Source, checked
from recsys.errors import DataError


def read_ratings(path: Path, columns: Columns) -> RatingsTable:
    """Read the four columns of a Parquet file.

    Raises:
        DataError: not a whole Parquet file, missing columns, or anything that `checked` refuses.
    """
    try:
        # ParquetFile rather than read_table: a folder's name (year=2024/…) must not become a column.
        with parquet.ParquetFile(path) as file:
            names = columns.resolve(file.schema_arrow.names, str(path))
            table = file.read(columns=list(names.values()))
        table.validate(full=True)  # text that is no UTF-8, offsets that lead out of a buffer
    except (pa.ArrowException, UnicodeDecodeError, OSError) as error:
        raise DataError(f"{path} can't be read as Parquet: {error}") from None

    def quote(rows: list[int]) -> list[str]:
        return [
            f"row {row + 1}: " + ", ".join(f"{name}={table[name][row]}" for name in names.values())
            for row in rows
        ]

    return checked({role: table[name] for role, name in names.items()}, Source(str(path), quote))
