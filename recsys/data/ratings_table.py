"""Rows of files -> checked ratings, or an error that shows the rows at fault."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from recsys.data.refusals import SHOWN, Refusals, listed
from recsys.errors import DataError
from serve.reading.columns import USUAL, find_columns
from serve.reading.ids import as_written, check_type, one_type, why_not
from serve.reading.numbers import as_numbers
from serve.reading.rows import RefusedRow, Rows, Source, joined
from serve.reading.times import as_seconds, begins_with_date

log = logging.getLogger(__name__)

SMALLEST, LARGEST = 1e-6, 1e12
"""Between these is the size of the largest rating. Below, torch's export takes the ends of a model's range
for 0; beyond, squares leave float32, and scores what a bundle's manifest may hold.
"""
NO_TIME = "no time in the years 1 to 9999, written as the first ones (seconds or milliseconds, or ISO 8601)"


@dataclass(frozen=True)
class Columns:
    """Names of the four columns; None: a usual name (`serve.reading.columns.USUAL`).

    Ratings and timestamps are optional: None takes a column with a usual name if there is one, "" takes none.
    """

    user: str | None = None
    item: str | None = None
    rating: str | None = None
    timestamp: str | None = None


@dataclass(frozen=True, eq=False)
class RatingsTable:
    """Ratings with the ids and in the order of their source. n > 0."""

    name: str
    """Name of the data in errors."""
    user_ids: pa.ChunkedArray
    """int64 or string [n], no null, no empty string."""
    item_ids: pa.ChunkedArray
    """int64 or string [n], no null, no empty string."""
    ratings: np.ndarray
    """float32 [n], finite; 1 without a column of ratings."""
    implicit: bool
    """Whether there is no column of ratings."""
    timestamps: np.ndarray | None
    """int64 [n], seconds since 1970."""
    parts: list[Rows]
    """The numbers of the rows in their files, without tables."""

    def refuse(self, positions: np.ndarray, what: str, advice: str) -> None:
        """Raise DataError: how many rows (positions, ascending), the first of them, what to do."""
        starts = np.cumsum([0, *(len(part.numbers) for part in self.parts)])
        first = []
        for position in positions[:SHOWN].tolist():
            number = int(np.searchsorted(starts, position, side="right")) - 1
            ids = f"{self.user_ids[position]}, {self.item_ids[position]}, {self.ratings[position]:g}"
            first.append(self.parts[number].refuse(position - int(starts[number]), None, "repeated", ids))
        raise DataError(listed(self.name, len(positions), "rating", what, first, advice))


def read_ratings(
    sources: Iterable[Source], columns: Columns, name: str, id_types: Mapping[str, pa.DataType] | None = None
) -> RatingsTable:
    """Read ratings from one or more files, whose ids get one type; `name` is the data's in errors.

    `id_types` are the types of "user" and "item" ids in a bundle that the ratings are for; without one, the
    type is that of all ids in all files.

    A warning is logged where no column has a usual name of ratings.

    Raises:
        InputError: a file can't be read, or has no such columns.
        DataError: no rows; ratings or times in some files only; ratings that are all too
            small, or one that is too large; ids that are floats; or refused rows: too few or too many cells,
            missing ids, ratings that are not finite numbers, wrong times.
    """
    refusals, parts, read = Refusals(name), [], dict[str, list[pa.Array]]()
    id_types = id_types or {}
    roles = {role: column for role, column in dataclasses.asdict(columns).items() if column != ""}
    dates: bool | None = None
    for source in sources:
        found = find_columns(source.schema.names, roles, source.name, optional=("rating", "timestamp"))
        for role in read.keys() ^ found.keys() if read else ():
            without = "have none" if role in read else "have them"
            raise DataError(f"{name}: not all files have {role}s: others, as {source.name}, {without}.")
        read = read or {role: [] for role in found}
        for role in ("user", "item"):
            check_type(source, found[role], id_types.get(role), "the bundle's")
        for rows in source.read(list(found.values())):
            given = {role: joined(rows.table.column(column)) for role, column in found.items()}
            if dates is None and "timestamp" in given:
                dates = begins_with_date(given["timestamp"])
            values = {
                role: _values(role, column, source.is_text, bool(dates), id_types.get(role))
                for role, column in given.items()
            }
            refusals.add([*rows.refused, *_refused(rows, found, given, values)])
            for role, column in values.items():
                read[role].append(column)
            parts.append(rows._replace(table=None, refused=[]))
    refusals.check()
    if within := [part for part in parts if part.n_within]:
        n, first = sum(part.n_within for part in within), within[0]
        log.warning(
            f"{name}: {n:,} lines belong to quoted cells of several lines, the first in {first.source}, "
            f"line {first.first_within}. If there is no such cell, a quote is not closed."
        )
    n = sum(map(len, read.get("user", [])))
    if not n:
        raise DataError(f"{name} has no ratings.")
    times = pa.chunked_array(read["timestamp"]).to_numpy() if "timestamp" in read else None
    implicit = "rating" not in read
    if implicit and columns.rating is None:
        log.warning(
            f"{name} has no column of ratings ({' or '.join(USUAL['rating'])}): each row is read as a like, "
            f"a purchase or a play. If it has ratings, name their column with --rating-column."
        )
    ratings = np.ones(n, np.float32) if implicit else pa.chunked_array(read["rating"]).to_numpy()
    largest = float(np.abs(ratings).max())
    if largest > LARGEST or 0 < largest < SMALLEST:
        raise DataError(
            f"{name}: the largest rating is {largest:g}, and models hold sizes from {SMALLEST:g} to "
            f"{LARGEST:g}. Write the ratings in another unit."
        )
    users, items = one_type(read["user"]), one_type(read["item"])
    return RatingsTable(name, users, items, ratings, implicit, times, parts)


def _values(role: str, column: pa.Array, is_text: bool, dates: bool, id_type: pa.DataType | None) -> pa.Array:
    """Ids, float32 ratings or int64 seconds; null for a wrong value."""
    if role == "rating":
        return as_numbers(column, pa.float32())
    return as_seconds(column, dates) if role == "timestamp" else as_written(column, is_text, id_type)


def _refused(
    rows: Rows, found: dict[str, str], given: dict[str, pa.Array], values: dict[str, pa.Array]
) -> list[RefusedRow]:
    """One refusal for each row with a null."""
    refused: dict[int, RefusedRow] = {}
    for role, column in values.items():
        if not column.null_count:
            continue
        for place in np.flatnonzero(column.is_null().to_numpy(zero_copy_only=False)).tolist():
            value = given[role][place].as_py()
            if role in ("user", "item"):
                reason = why_not(value)
            elif value is None or value == "":
                reason = "no rating" if role == "rating" else "no time"
            else:
                reason = "not a finite number" if role == "rating" else NO_TIME
            refused.setdefault(place, rows.refuse(place, found[role], reason, value))
    return list(refused.values())
