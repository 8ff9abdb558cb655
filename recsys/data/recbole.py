"""RecBole's atomic files: NAME.inter with the ratings, NAME.item with what is known of the items.

Tab-separated; a header cell is "name:type", the types are token, token_seq, float, float_seq.
"""

from __future__ import annotations

from importlib.resources.abc import Traversable

import pandas as pd
import pyarrow as pa

from recsys.data import archive, text
from recsys.data.columns import USUAL, Columns
from recsys.data.items import catalogue
from recsys.data.ratings_table import RatingsTable
from recsys.data.text_ratings import read_ratings
from recsys.errors import DataError

TITLES = ("title", "movie_title", "name", "item_name")
GENRES = ("genre", "genres", "class", "categories", "category")
YEARS = ("release_year", "year")


def find_ratings(root: Traversable) -> Traversable | None:
    """The .inter file; None where there is none.

    Raises:
        DataError: several.
    """
    there = archive.with_ending(root, ".inter")
    if len(there) > 1:
        raise DataError(
            f"{root} has several .inter files: {', '.join(map(str, there))}. Name the one to read."
        )
    return there[0] if there else None


def read(
    root: Traversable, ratings: Traversable, columns: Columns
) -> tuple[RatingsTable, pd.DataFrame | None, list[Traversable]]:
    """The ratings, the catalogue where there is a .item file of the same name, and the files that were read.

    Raises:
        DataError: missing columns, or anything that `checked` refuses.
    """
    table = read_ratings(ratings, text.ATOMIC, columns)
    items = archive.find(root, ratings.name.removesuffix(".inter") + ".item")
    if items is None:
        return table, None, [ratings]
    return table, _items(items, columns), [ratings, items]


def _items(file: Traversable, columns: Columns) -> pd.DataFrame:
    items = text.TextTable.of(file, text.ATOMIC)
    cells = dict(zip(items.names, items.header, strict=True))

    def cell_of(names: tuple[str, ...]) -> str | None:
        return next((cells[name] for name in names if name in cells), None)

    item = cell_of((columns.item,) if columns.item else USUAL["item"])
    if item is None:
        raise DataError(
            f"{file}: no column for the item id. It has: {', '.join(cells)}. Name it with --item-column."
        )
    title, genres, year = cell_of(TITLES), cell_of(GENRES), cell_of(YEARS)
    known = {cell: pa.string() for cell in (title, genres, year) if cell}
    try:
        table = items.read([item, *known], known)
        if not pa.types.is_int64(table[item].type):
            table = items.read([item, *known], known | {item: pa.string()})
    except pa.ArrowInvalid as error:
        raise DataError(f"{file} is no table of items: {error}") from None

    def strings(cell: str | None) -> list[str | None]:
        return table[cell].to_pylist() if cell else [None] * len(table)

    separator = "|" if genres and not genres.endswith("token_seq") else " "
    listed = ["|".join(value.split(separator)) if value is not None else None for value in strings(genres)]
    frame = catalogue(table[item].combine_chunks(), strings(title), listed, str(file))
    if year:
        years = pd.to_numeric(pd.Series(strings(year), dtype="str"), errors="coerce")
        frame["year"] = years.astype("Float64").round().astype("Int64").fillna(frame["year"])
    return frame
