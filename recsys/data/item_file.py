"""A file of items by itself: ids, titles, and perhaps genres and years."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pyarrow as pa
from pyarrow import parquet

from recsys.data import text
from recsys.data.columns import USUAL
from recsys.data.items import catalogue
from recsys.errors import DataError

FORMATS = {".csv": text.CSV, ".tsv": text.TSV}
PARQUET_ENDINGS = (".parquet", ".pq")
KNOWN = ("title", "genres", "year")


def read_items(path: Path, item_column: str | None = None) -> pd.DataFrame:
    """Read a CSV, TSV or Parquet file with the columns of an item's id and `title`, perhaps `genres`, `year`.

    Without `year`, it is taken out of titles such as "Toy Story (1995)". Other columns are ignored.

    Returns:
        `item_id` (int64 or str), `title`, `genres` (str, "|" between two), `year` (Int64).

    Raises:
        DataError: it can't be read, has no such columns, or ids are missing or repeated.
    """
    try:
        table = _read(path, item_column)
    except (pa.ArrowException, UnicodeDecodeError, OSError) as error:
        raise DataError(f"{path} can't be read as a table of items: {error}") from None
    ids = table.column(0).combine_chunks()
    if not pa.types.is_integer(ids.type) and not pa.types.is_string(ids.type):
        raise DataError(f"{path}: item ids are of type {ids.type}; they must be integers or strings.")
    if pa.types.is_integer(ids.type):
        ids = ids.cast(pa.int64())

    def strings(name: str) -> list[str | None]:
        return table[name].cast(pa.string()).to_pylist() if name in table.column_names else [None] * len(ids)

    frame = catalogue(ids, strings("title"), strings("genres"), str(path))
    if "year" in table.column_names:
        years = pd.to_numeric(pd.Series(strings("year"), dtype="str"), errors="coerce")
        frame["year"] = years.astype("Float64").round().astype("Int64").fillna(frame["year"])
    return frame


def _read(path: Path, item_column: str | None) -> pa.Table:
    """The columns of `KNOWN` that are there, after the id's."""
    ending = path.suffix.lower()
    if ending in FORMATS:
        source = text.TextTable.of(path, FORMATS[ending])
        wanted = _columns(source.names, item_column, path)
        strings = dict.fromkeys(wanted[1:], pa.string())
        table = source.read(wanted, strings)
        # As in ratings: ids that are not all whole numbers are text, as it is written.
        if not pa.types.is_int64(table.schema.field(0).type):
            table = source.read(wanted, strings | {wanted[0]: pa.string()})
        return table
    if ending in PARQUET_ENDINGS:
        with parquet.ParquetFile(path) as file:
            wanted = _columns(tuple(file.schema_arrow.names), item_column, path)
            table = file.read(columns=wanted).select(wanted)
        table.validate(full=True)
        return table
    raise DataError(f"{path}: its ending must be one of {', '.join((*FORMATS, *PARQUET_ENDINGS))}.")


def _columns(names: tuple[str, ...], item_column: str | None, path: Path) -> list[str]:
    wanted = (item_column,) if item_column else USUAL["item"]
    item = next((name for name in wanted if name in names), None)
    if item is None or "title" not in names:
        raise DataError(
            f"{path} needs the columns {' or '.join(wanted)}, and title. It has: {', '.join(names)}. Name "
            f"the first with --item-column."
        )
    return [item, *(name for name in KNOWN if name in names)]
