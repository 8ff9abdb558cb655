"""MovieLens' three layouts and RecBole's, in a folder or a zip.

MovieLens: u.data and u.item (100K), ratings.dat and movies.dat (1M), ratings.csv and movies.csv (the others);
on Kaggle rating.csv and movie.csv. RecBole: NAME.inter with the ratings, NAME.item with the items.
"""

from __future__ import annotations

import logging
from importlib.resources.abc import Traversable

import pandas as pd
import pyarrow as pa

from recsys.data import archive
from recsys.data.items import catalogue, frame
from recsys.data.ratings_table import Columns, RatingsTable, read_ratings
from recsys.data.refusals import whole_table
from recsys.errors import DataError
from serve.reading.text import ATOMIC, CSV, Layout, TextSource

RATINGS_FILES = {
    "u.data": ("u.data",),
    "ratings.dat": ("ratings.dat",),
    "ratings.csv": ("ratings.csv", "rating.csv"),
    ".inter": ("*.inter",),
}
"""Layout -> names of its file of ratings."""

_HEADER = ("user_id", "item_id", "rating", "timestamp")
_LAYOUTS = {
    "u.data": Layout("\t", _HEADER, quotes="none"),
    "ratings.dat": Layout("::", _HEADER, quotes="none"),
    "ratings.csv": CSV,
    ".inter": ATOMIC,
}
_ITEM_FILES = {
    "u.data": ("u.item",),
    "ratings.dat": ("movies.dat",),
    "ratings.csv": ("movies.csv", "movie.csv"),
}
_ITEM_LAYOUTS = _LAYOUTS | {
    "ratings.dat": Layout("::", ("item_id", "title", "genres"), quotes="none", encoding="latin-1")
}

log = logging.getLogger(__name__)


def find_ratings(root: Traversable) -> tuple[str, Traversable] | None:
    """The layout and the file of ratings; None: the folder or zip has none of these layouts.

    Raises:
        DataError: several files of ratings.
    """
    found = [(layout, file) for layout, names in RATINGS_FILES.items() for file in archive.find(root, *names)]
    if len(found) > 1:
        files = ", ".join(str(file) for _, file in found)
        raise DataError(f"{root} has several files of ratings: {files}. Keep one, or name the one to read.")
    return found[0] if found else None


def read(
    root: Traversable, layout: str, ratings: Traversable, columns: Columns
) -> tuple[RatingsTable, pd.DataFrame | None, list[Traversable]]:
    """The ratings, the catalogue of items (None without its file), and the files that were read.

    Files without a header have the columns user_id, item_id, rating and timestamp.

    Raises:
        InputError, DataError: as `read_ratings` and `catalogue`.
    """
    table = read_ratings([TextSource(ratings, _LAYOUTS[layout])], columns, str(ratings))
    is_atomic, is_100k = layout == ".inter", layout == "u.data"
    names = (f"{ratings.name.removesuffix('.inter')}.item",) if is_atomic else _ITEM_FILES[layout]
    items, genres = archive.find(root, *names)[:1], archive.find(root, "u.genre")[:1] if is_100k else []
    files = [ratings, *items, *genres]
    if not items or (is_100k and not genres):
        if not is_atomic:
            log.warning("%s has no %s: items have no titles.", root, " or ".join(names))
        return table, None, [ratings]
    if is_100k:
        return table, _u_item(items[0], genres[0]), files
    source = TextSource(items[0], _ITEM_LAYOUTS[layout])
    return table, catalogue(source, columns.item if is_atomic else None), files


def _u_item(items: Traversable, genres: Traversable) -> pd.DataFrame:
    """Movie id | title | release date | video release date | IMDb URL | 0 or 1 for each genre."""
    lines = genres.read_bytes().decode("latin-1").split("\n")
    names = [line.partition("|")[0] for line in lines if line.strip()]
    header = ("item_id", "title", "released", "video", "url", *(f"genre {name}" for name in names))
    table = whole_table(TextSource(items, Layout("|", header, quotes="none", encoding="latin-1")))
    flags = zip(*(table[place].to_pylist() for place in range(5, len(header))), strict=True)
    flagged = ["|".join(name for name, flag in zip(names, row, strict=True) if flag == "1") for row in flags]
    return frame(pa.table({"item_id": table[0], "title": table[1], "genres": flagged}), str(items))
