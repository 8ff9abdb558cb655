"""MovieLens' three layouts: u.data and u.item (100K), ratings.dat and movies.dat (1M), CSV (the others).

The copies on Kaggle are read too: without the folder, or in one of another name, and as rating.csv and
movie.csv with dates for timestamps.
"""

from __future__ import annotations

import re
from importlib.resources.abc import Traversable

import pandas as pd
import pyarrow as pa

from recsys.data import archive, text
from recsys.data.columns import Columns
from recsys.data.items import catalogue
from recsys.data.ratings_table import RatingsTable
from recsys.data.text_ratings import read_ratings
from recsys.errors import DataError

RATINGS_FILES = {
    "u.data": ("u.data",),
    "ratings.dat": ("ratings.dat",),
    "ratings.csv": ("ratings.csv", "rating.csv"),
}
"""Layout -> the names that its file of ratings has."""

NO_GENRES = {"(no genres listed)", "unknown"}


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
) -> tuple[RatingsTable, pd.DataFrame, list[Traversable]]:
    """The ratings, the catalogue of items, and the files that were read.

    `columns` is for data in MovieLens' layout with names of its own; without a header the names are
    user_id, item_id, rating, timestamp.

    Raises:
        DataError: no file of items, or one of the two is not as its layout says.
    """
    if layout == "u.data":
        items = _needed(root, "u.item")
        genres = _needed(root, "u.genre")
        table = read_ratings(ratings, text.U_DATA, columns)
        return table, _u_item(items, genres), [ratings, items, genres]
    if layout == "ratings.dat":
        items = _needed(root, "movies.dat")
        return read_ratings(ratings, text.RATINGS_DAT, columns), _movies_dat(items), [ratings, items]
    items = _needed(root, "movies.csv", "movie.csv")
    return read_ratings(ratings, text.CSV, columns), _movies_csv(items), [ratings, items]


def _needed(root: Traversable, *names: str) -> Traversable:
    file = archive.find(root, *names)
    if file is None:
        raise DataError(
            f"{root} has ratings, but no {' or '.join(names)}. Unpack or download the whole data set."
        )
    return file


def _u_item(items: Traversable, genres: Traversable) -> pd.DataFrame:
    """Movie id | title | release date | video release date | IMDb URL | one 0 or 1 a genre; Latin-1."""
    names = [line.partition("|")[0] for line in _lines(genres)]
    rows = _rows(items, "|", 5 + len(names))
    flagged = [[name for name, flag in zip(names, row[5:], strict=True) if flag == "1"] for row in rows]
    return _movies(items, rows, flagged)


def _movies_dat(items: Traversable) -> pd.DataFrame:
    """Movie id :: title :: genres; Latin-1."""
    rows = _rows(items, "::", 3)
    return _movies(items, rows, [row[2].split("|") for row in rows])


def _movies_csv(items: Traversable) -> pd.DataFrame:
    """movieId,title,genres; UTF-8."""
    types = {"movieId": pa.int64(), "title": pa.string(), "genres": pa.string()}
    try:
        table = text.TextTable.of(items, text.CSV).read(list(types), types)
    except (pa.ArrowInvalid, pa.ArrowKeyError) as error:
        raise DataError(f"{items} is no table of movieId,title,genres: {error}") from None
    rows = [[str(row["movieId"]), row["title"]] for row in table.to_pylist()]
    return _movies(items, rows, [genres.split("|") for genres in table["genres"].to_pylist()])


def _lines(file: Traversable) -> list[str]:
    # Not splitlines: to it, \x85 ends a line too, and that is a letter's neighbour in Latin-1.
    lines = file.read_bytes().decode("latin-1").split("\n")
    return [line.rstrip("\r") for line in lines if line.strip()]


def _rows(file: Traversable, delimiter: str, n_fields: int) -> list[list[str]]:
    rows = [line.split(delimiter) for line in _lines(file)]
    wrong = [row for row in rows if len(row) != n_fields]
    if wrong:
        raise DataError(
            f"{file}: {len(wrong):,} rows don't have {n_fields} fields: {delimiter.join(wrong[0])[:200]!r}."
        )
    return rows


def _movies(file: Traversable, rows: list[list[str]], genres: list[list[str]]) -> pd.DataFrame:
    wrong = [row[0] for row in rows if not re.fullmatch("[0-9]{1,18}", row[0])]
    if wrong:
        raise DataError(f"{file}: {len(wrong):,} movie ids are no number, the first is {wrong[0][:50]!r}.")
    ids = pa.array([int(row[0]) for row in rows], pa.int64())
    listed: list[str | None] = ["|".join(name for name in names if name not in NO_GENRES) for names in genres]
    return catalogue(ids, [row[1] for row in rows], listed, str(file))
