"""The catalogue of items: titles, genres and years."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import pyarrow as pa

from recsys.data.refusals import as_data_errors, keyed_table
from recsys.errors import DataError
from serve.reading.columns import find_columns
from serve.reading.files import open_source
from serve.reading.ids import as_ids
from serve.reading.rows import Source
from serve.reading.text import TextSource

TITLES = ("title", "movie_title", "name", "item_name")
GENRES = ("genres", "genre", "class", "categories", "category")
YEARS = ("year", "release_year")
LAST_YEAR = 9999
NO_GENRES = {"(no genres listed)", "unknown"}

# The last year in brackets: "Toy Story (1995)", "Death Note (2006–2007)", "The Great Giving (1995) (V)".
_YEAR = r"^.*\((\d{4})(?:[-–]\d{0,4})?\)"


def read_items(path: Path, item_column: str | None = None) -> pd.DataFrame:
    """Read a file of items with ids and titles; see `catalogue`.

    Raises:
        DataError: as `catalogue`; or the file has no column of titles.
    """
    with as_data_errors():
        source = open_source(path)
        if _first(source, TITLES) is None:
            raise DataError(f"{path} needs a column title. It has: {', '.join(source.schema.names)}.")
        return catalogue(source, item_column)


def catalogue(
    source: Source, item_column: str | None = None, id_type: pa.DataType | None = None
) -> pd.DataFrame:
    """Read the catalogue of items from a table: ids and, if it has such columns, titles, genres and years.

    Args:
        source: The table. Its genres are separated by "|", or by spaces in RecBole's token_seq.
        item_column: Name of the column of ids; None: a usual name.
        id_type: Type of the ids, pa.int64() or pa.string(); None: as they are written.

    Returns:
        As `frame`.

    Raises:
        InputError: the table can't be read, or has no column of ids.
        DataError: refused rows; ids that are missing, repeated, or neither integers nor strings.
    """
    item = find_columns(source.schema.names, {"item": item_column}, source.name)["item"]
    known = {"title": _first(source, TITLES), "genres": _first(source, GENRES), "year": _first(source, YEARS)}
    columns = {"item_id": item} | {name: column for name, column in known.items() if column}
    ids, table = keyed_table(source, item, list(columns.values()), id_type)
    is_sequence = isinstance(source, TextSource) and source.types.get(known["genres"] or "") == "token_seq"
    return frame(ids, table.rename_columns(list(columns)), genres_between=" " if is_sequence else "|")


def frame(ids: pa.Array, table: pa.Table, genres_between: str = "|") -> pd.DataFrame:
    """Make a catalogue from ids [n] and a table [n] with perhaps `title`, `genres` and `year`.

    Returns:
        `item_id` (int64 or str), `title` (str, missing where it is empty), `genres` (str, separated by "|",
        "" for none), `year` (Int64; from a title such as "Toy Story (1995)" if the column has none).

    Raises DataError: a number that is no year.
    """

    def strings(name: str) -> list[str | None]:
        return as_text(table[name]) if name in table.column_names else [None] * len(table)

    genres = [
        None
        if cell is None
        else "|".join(name for name in cell.split(genres_between) if name not in NO_GENRES)
        for cell in strings("genres")
    ]
    items = pd.DataFrame(
        {
            "item_id": series(ids),
            "title": pd.Series([title or None for title in strings("title")], dtype="str"),
            "genres": pd.Series(genres, dtype="str"),
        }
    )
    years = numeric_years(pd.Series(strings("year"), dtype="str"))
    in_title = items["title"].str.extract(_YEAR, expand=False).astype("Float64")
    return items.assign(year=years.fillna(in_title).round().astype("Int64"))


def numeric_years(cells: pd.Series) -> pd.Series:
    """Years [n], of numbers or text, as Float64; missing where a cell has none.

    Raises DataError: a number that is no year.
    """
    years = pd.to_numeric(cells, errors="coerce").astype("Float64")
    odd = years[(years.abs() > LAST_YEAR).fillna(False)]
    if len(odd):
        raise DataError(f"the year of an item is {odd.iloc[0]:g}: correct it, or leave it empty.")
    return years


def as_text(column: pa.ChunkedArray | pa.Array) -> list[str | None]:
    """The cells as text: a list, of Parquet or written as JSON, has its values separated by "|"."""
    if pa.types.is_list(column.type) or pa.types.is_large_list(column.type):
        return [None if cell is None else "|".join(map(str, cell)) for cell in column.to_pylist()]
    return [_list_as_text(cell) for cell in column.cast(pa.string()).to_pylist()]


def _list_as_text(cell: str | None) -> str | None:
    if cell is None or not cell.startswith("["):
        return cell
    try:
        values = json.loads(cell, parse_int=str, parse_float=str)
    except (ValueError, RecursionError):
        return cell
    is_flat = isinstance(values, list) and all(isinstance(value, str) for value in values)
    return "|".join(values) if is_flat else cell


def series(ids: pa.Array) -> pd.Series:
    """Ids as int64 or str."""
    values = pd.Series(ids.to_numpy(zero_copy_only=False))
    return values.astype("str") if pa.types.is_string(ids.type) else values


def ids_like(ids: pd.Series, others: pd.Series) -> pd.Series:
    """Ids [n] as `series` gives them, of the type of others: str, or Int64 that is missing where text is no
    integer.
    """
    if others.dtype == "str":
        return ids.astype("str")
    found = as_ids(pa.Array.from_pandas(ids), pa.int64())
    return pd.Series(found.to_pylist(), ids.index, dtype="Int64")


def _first(source: Source, names: Sequence[str]) -> str | None:
    return next((name for name in names if name in source.schema.names), None)
