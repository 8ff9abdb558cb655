"""RecBole's atomic files: NAME.inter with the ratings, NAME.item with what is known of the items."""

from __future__ import annotations

from importlib.resources.abc import Traversable

import pandas as pd

from recsys.data import archive
from recsys.data.columns import Columns
from recsys.data.items import catalogue
from recsys.data.ratings_table import RatingsTable, read_ratings
from recsys.errors import DataError
from serve.reading.text import ATOMIC, TextSource


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
        InputError, DataError: as `read_ratings` and `catalogue`.
    """
    table = read_ratings([TextSource(ratings, ATOMIC)], columns, str(ratings))
    items = archive.find(root, ratings.name.removesuffix(".inter") + ".item")
    if items is None:
        return table, None, [ratings]
    return table, catalogue(TextSource(items, ATOMIC), columns.item), [ratings, items]
