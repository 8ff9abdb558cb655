"""MovieLens' three layouts: u.data and u.item (100K), ratings.dat and movies.dat (1M), CSV (the others).

The copies on Kaggle are read too: without the folder, or in one of another name, and as rating.csv and
movie.csv with dates for timestamps.
"""

from __future__ import annotations

import logging
from importlib.resources.abc import Traversable

import pandas as pd
import pyarrow as pa

from recsys.data import archive
from recsys.data.columns import Columns
from recsys.data.items import catalogue, frame
from recsys.data.ratings_table import RatingsTable, read_ratings
from recsys.data.refusals import whole_table
from recsys.errors import DataError
from serve.reading.text import CSV, Layout, TextSource

RATINGS_FILES = {
    "u.data": ("u.data",),
    "ratings.dat": ("ratings.dat",),
    "ratings.csv": ("ratings.csv", "rating.csv"),
}
"""Layout -> the names that its file of ratings has."""

_HEADER = ("user_id", "item_id", "rating", "timestamp")
_LAYOUTS = {
    "u.data": Layout("\t", _HEADER, quotes="none"),
    "ratings.dat": Layout("::", _HEADER, quotes="none"),
    "ratings.csv": CSV,
}
_ITEM_FILES = {
    "u.data": ("u.item",),
    "ratings.dat": ("movies.dat",),
    "ratings.csv": ("movies.csv", "movie.csv"),
}
_MOVIES_DAT = Layout("::", ("item_id", "title", "genres"), quotes="none", encoding="latin-1")

log = logging.getLogger(__name__)


def find_ratings(root: Traversable) -> tuple[str, Traversable] | None:
    """The layout and the file of ratings; None where this is no MovieLens data.

    Raises:
        DataError: files of several layouts.
    """
    there = [
        (layout, file) for layout, names in RATINGS_FILES.items() if (file := archive.find(root, *names))
    ]
    if len(there) > 1:
        raise DataError(f"{root} has ratings twice: {', '.join(str(file) for _, file in there)}. Keep one.")
    return there[0] if there else None


def read(
    root: Traversable, layout: str, ratings: Traversable, columns: Columns
) -> tuple[RatingsTable, pd.DataFrame | None, list[Traversable]]:
    """The ratings, the catalogue of items (None without its file), and the files that were read.

    `columns` is for data in MovieLens' layout with names of its own; without a header the names are
    user_id, item_id, rating, timestamp.

    Raises:
        InputError, DataError: as `read_ratings` and `catalogue`.
    """
    table = read_ratings([TextSource(ratings, _LAYOUTS[layout])], columns, str(ratings))
    items = archive.find(root, *_ITEM_FILES[layout])
    genres = archive.find(root, "u.genre") if layout == "u.data" else None
    if items is None or (layout == "u.data" and genres is None):
        log.warning("%s has no %s: items have no titles.", root, " or ".join(_ITEM_FILES[layout]))
        return table, None, [ratings]
    if genres is not None:
        return table, _u_item(items, genres), [ratings, items, genres]
    return (
        table,
        catalogue(TextSource(items, _MOVIES_DAT if layout == "ratings.dat" else CSV)),
        [ratings, items],
    )


def _u_item(items: Traversable, genres: Traversable) -> pd.DataFrame:
    """Movie id | title | release date | video release date | IMDb URL | one 0 or 1 a genre."""
    lines = genres.read_bytes().decode("latin-1").split("\n")
    names = [line.partition("|")[0] for line in lines if line.strip()]
    header = ("item_id", "title", "released", "video", "url", *(f"genre {name}" for name in names))
    table = whole_table(TextSource(items, Layout("|", header, quotes="none", encoding="latin-1")))
    flags = zip(*(table[place].to_pylist() for place in range(5, len(header))), strict=True)
    flagged = ["|".join(name for name, flag in zip(names, row, strict=True) if flag == "1") for row in flags]
    return frame(pa.table({"item_id": table[0], "title": table[1], "genres": flagged}), str(items))
