"""MovieLens' three layouts and RecBole's, in a folder or a zip.

MovieLens: u.data, u.item and u.user (100K), ratings.dat, movies.dat and users.dat (1M), ratings.csv and
movies.csv (the others); on Kaggle rating.csv and movie.csv. RecBole: NAME.inter with the ratings, NAME.item
with the items.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from importlib.resources.abc import Traversable
from typing import NamedTuple

import pandas as pd
import pyarrow as pa

from recsys.data import archive
from recsys.data.items import catalogue, frame, series
from recsys.data.ratings_table import Columns, RatingsTable, read_ratings
from recsys.data.refusals import keyed_table
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
_USER_FILES = {
    "u.data": ("u.user", Layout("|", ("user_id", "age", "gender", "occupation", "zip"), quotes="none")),
    "ratings.dat": (
        "users.dat",
        Layout("::", ("user_id", "gender", "age", "occupation", "zip"), quotes="none"),
    ),
}
_ITEM_LAYOUTS = _LAYOUTS | {"ratings.dat": Layout("::", ("item_id", "title", "genres"), quotes="none")}

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


class DataFiles(NamedTuple):
    """What was read."""

    ratings: RatingsTable
    items: pd.DataFrame | None
    """As `items.catalogue` returns it; None: there is no such file."""
    users: pd.DataFrame | None
    """`user_id`, `age`, `gender`, `occupation`; None: there is no such file."""
    files: list[Traversable]


def read(
    root: Traversable,
    layout: str,
    ratings: Traversable,
    columns: Columns,
    id_types: Mapping[str, pa.DataType] | None = None,
) -> DataFiles:
    """The ratings, and what is known of items and users.

    Files without a header have the columns user_id, item_id, rating and timestamp.

    Raises:
        InputError, DataError: as `read_ratings` and `catalogue`.
    """
    table = read_ratings([TextSource(ratings, _LAYOUTS[layout])], columns, str(ratings), id_types)
    is_atomic, is_100k = layout == ".inter", layout == "u.data"
    names = (f"{ratings.name.removesuffix('.inter')}.item",) if is_atomic else _ITEM_FILES[layout]
    items, genres = archive.find(root, *names)[:1], archive.find(root, "u.genre")[:1] if is_100k else []
    users, of_users = _users(root, layout)
    files = [ratings, *items, *genres, *of_users]
    if not items or (is_100k and not genres):
        if not is_atomic:
            log.warning("%s has no %s: items have no titles.", root, " or ".join(names))
        return DataFiles(table, None, users, [ratings, *of_users])
    if is_100k:
        return DataFiles(table, _u_item(items[0], genres[0]), users, files)
    item_layout = _ITEM_LAYOUTS[layout]
    if layout == "ratings.dat":
        item_layout = replace(item_layout, encoding=_encoding(items[0]))
    source = TextSource(items[0], item_layout)
    known = catalogue(source, columns.item if is_atomic else None, (id_types or {}).get("item"))
    return DataFiles(table, known, users, files)


def _users(root: Traversable, layout: str) -> tuple[pd.DataFrame | None, list[Traversable]]:
    """MovieLens' users, without the zip codes, and their file."""
    if layout not in _USER_FILES:
        return None, []
    name, text = _USER_FILES[layout]
    found = archive.find(root, name)[:1]
    if not found:
        return None, []
    columns = ["user_id", "age", "gender", "occupation"]
    ids, users = keyed_table(TextSource(found[0], text), "user_id", columns)
    frame = pd.DataFrame(
        {"user_id": series(ids), "age": pd.to_numeric(users["age"].to_pandas(), errors="coerce")}
    )
    for column in columns[2:]:
        frame[column] = pd.Series(users[column].to_pylist(), dtype="str")
    return frame, found


def _encoding(items: Traversable) -> str:
    """MovieLens 100K and 1M are in Latin-1, 10M and converted copies in UTF-8."""
    try:
        items.read_bytes().decode()
    except UnicodeDecodeError:
        return "latin-1"
    return "utf-8"


def _u_item(items: Traversable, genres: Traversable) -> pd.DataFrame:
    """Movie id | title | release date | video release date | IMDb URL | 0 or 1 for each genre."""
    lines = genres.read_bytes().decode("latin-1").split("\n")
    names = [line.partition("|")[0] for line in lines if line.strip()]
    header = ("item_id", "title", "released", "video", "url", *(f"genre {name}" for name in names))
    source = TextSource(items, Layout("|", header, quotes="none", encoding=_encoding(items)))
    ids, table = keyed_table(source, "item_id")
    flags = zip(*(table[place].to_pylist() for place in range(5, len(header))), strict=True)
    flagged = ["|".join(name for name, flag in zip(names, row, strict=True) if flag == "1") for row in flags]
    return frame(ids, pa.table({"title": table["title"], "genres": flagged}))
