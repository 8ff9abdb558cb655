"""One person's ratings in a file, such as an export of Letterboxd -> items of a bundle and ratings."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from serve.errors import InputError, RequestError
from serve.terminal import counted

if TYPE_CHECKING:
    from serve.bundle.items import Catalogue
    from serve.reading.rows import RefusedRow, Rows

TITLES = ("title", "name")
SHOWN = 5
# The columns of IMDb's export, whose ratings lie on IMDb's own scale.
IMDB = {"const", "your rating"}
IMDB_SCALE = 1.0, 10.0


class RatedFile(NamedTuple):
    """What a file says of items that the bundle has."""

    item_indices: list[int]
    ratings: list[float]
    left_out: list[RefusedRow]
    """Rows of items that the bundle does not have, or has several of."""


def read_rated(path: Path, items: Catalogue, scale: tuple[float, float]) -> RatedFile:
    """Read a file with a row for each rated item: its id, or its title and perhaps the year; and the rating.

    Ratings of IMDb, from 1 to 10, are brought to `scale`, that of the bundle.

    Raises:
        InputError: the file can't be read, has no such columns, or has rows that can't be read.
    """
    from serve.reading.columns import find_columns
    from serve.reading.files import open_source
    from serve.reading.ids import check_type

    source = open_source(path)
    names = source.schema.names
    found = find_columns(names, {"item": None, "rating": None}, source.name, optional=("item", "rating"))
    title, year = _first(names, TITLES), _first(names, ["year"])
    for role, there in (
        ("items (item_id or title)", title or "item" in found),
        ("rating", "rating" in found),
    ):
        if not there:
            raise InputError(f"{path} has no column of {role}. It has: {', '.join(names)}. Rename one.")
    by_id = "item" in found
    if by_id:
        check_type(source, found["item"], items.ids.type, "the bundle's")
    columns = [found["item"]] if by_id else [name for name in (title, year) if name]
    rated = _resolved(source.read([*columns, found["rating"]]), columns, by_id, items)
    if not {name.lower() for name in names} >= IMDB:
        return rated
    (low, high), (lowest, highest) = IMDB_SCALE, scale
    ratings = [lowest + (value - low) / (high - low) * (highest - lowest) for value in rated.ratings]
    return rated._replace(ratings=ratings)


def _resolved(parts: Iterable[Rows], columns: Sequence[str], by_id: bool, items: Catalogue) -> RatedFile:
    import pyarrow as pa

    from serve.reading.numbers import as_numbers
    from serve.reading.rows import joined

    rated = RatedFile([], [], [])
    refused: list[RefusedRow] = []
    for rows in parts:
        refused += rows.refused
        ratings = as_numbers(joined(rows.table.column(-1)), pa.float64()).to_pylist()
        cells = zip(*(rows.table.column(name).to_pylist() for name in columns), strict=True)
        for place, (texts, rating) in enumerate(zip(cells, ratings, strict=True)):
            text, *year = ["" if cell is None else str(cell) for cell in texts]
            if rating is None:
                given = rows.table.column(-1)[place].as_py()
                refused.append(rows.refuse(place, "rating", "not a finite number", given))
                continue
            try:
                index = _index(text, year[0] if year else "", by_id, items)
            except RequestError as error:
                rated.left_out.append(rows.refuse(place, columns[0], str(error), text))
                continue
            rated.item_indices.append(index)
            rated.ratings.append(rating)
    if refused:
        raise InputError(listed(refused, "row", "can't be read"))
    return rated


def _index(text: str, year: str, by_id: bool, items: Catalogue) -> int:
    if by_id:
        if index := items.ids.lookup_text(text):
            return index
        from serve.reading.cells import parse_integer
        from serve.reading.ids import why_not

        is_id = items.ids.is_string or parse_integer(text) is not None
        raise RequestError("not in the bundle" if is_id else why_not(text))
    year = re.sub(r"\.0+$", "", year)  # as pandas writes years where some are missing
    name = f"{text} ({year})" if year and f"({year})" not in text else text
    try:
        return items.resolve(name)
    except RequestError:
        plain = _without_accents(name)
        if plain == name:
            raise
        try:
            return items.resolve(plain)
        except RequestError:
            pass
        raise


def _without_accents(text: str) -> str:
    """The text without accents, in which catalogues differ: Amelie for Amélie."""
    return "".join(char for char in unicodedata.normalize("NFD", text) if not unicodedata.combining(char))


def listed(rows: Sequence[RefusedRow], noun: str, what: str) -> str:
    """A message: how many rows (called `noun`, in the singular), and the first of them."""
    shown = "\n  ".join(map(str, rows[:SHOWN]))
    more = f"\n  … and {len(rows) - SHOWN:,} more" if len(rows) > SHOWN else ""
    return f"{counted(len(rows), noun)} {what}:\n  {shown}{more}"


def _first(names: Sequence[str], wanted: Sequence[str]) -> str | None:
    return next((name for usual in wanted for name in names if name.lower() == usual), None)
