"""Rows of files -> ratings that can be trusted, or an error that shows the offending rows."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from recsys.data.columns import Columns
from recsys.data.refusals import SHOWN, Refusals, listed
from recsys.errors import DataError
from serve.reading.ids import as_written, holds_ids, why_not
from serve.reading.numbers import as_numbers
from serve.reading.rows import RefusedRow, Rows, Source, joined
from serve.reading.times import as_seconds, begins_with_date

NO_TIME = "no time in the years 1 to 9999, written as the first ones (seconds or milliseconds, or ISO 8601)"


@dataclass(frozen=True, eq=False)
class RatingsTable:
    """Ratings with the ids of their source, rows in its order. n > 0."""

    name: str
    """What errors call the data."""
    user_ids: pa.ChunkedArray
    """int64 or string [n], no null, no empty string."""
    item_ids: pa.ChunkedArray
    """int64 or string [n], no null, no empty string."""
    ratings: np.ndarray
    """float32 [n], finite."""
    timestamps: np.ndarray | None
    """int64 [n], seconds since 1970."""
    places: list[Rows]
    """Where the rows stand in their files, in stretches; without tables."""

    def refuse(self, positions: np.ndarray, what: str, way_out: str) -> None:
        """Raise DataError: how many rows (their positions, ascending), the first of them, the way out."""
        ends = np.cumsum([len(place.numbers) for place in self.places])
        first = []
        for position in positions[:SHOWN].tolist():
            stretch = int(np.searchsorted(ends, position, side="right"))
            rows = self.places[stretch]
            ids = f"{self.user_ids[position]}, {self.item_ids[position]}, {self.ratings[position]:g}"
            first.append(rows.refuse(position - int(ends[stretch]), None, "repeated", ids))
        raise DataError(listed(self.name, len(positions), f"ratings {what}", first, way_out))


def read_ratings(sources: Iterable[Source], columns: Columns, name: str) -> RatingsTable:
    """Read ratings from one or more files, whose ids get one type.

    Args:
        sources: The files, opened one after the other.
        columns: What their columns are called.
        name: What errors call the data.

    Raises:
        InputError: a file can't be read, or has no such columns.
        DataError: no rows; files with times and others without; or refused rows: too few or too many cells,
            missing ids, ratings that are no finite numbers, times that are none.
    """
    refusals, places, read = Refusals(name), [], dict[str, list[pa.Array]]()
    dates: bool | None = None
    for source in sources:
        found = columns.resolve(source.schema.names, source.name)
        if read and read.keys() != found.keys():
            raise DataError(f"{name}: some files have times, and others, as {source.name}, have none.")
        read = read or {role: [] for role in found}
        _check_types(source, found)
        for rows in source.read(list(found.values())):
            given = {role: joined(rows.table.column(column)) for role, column in found.items()}
            if dates is None and "timestamp" in given:
                dates = begins_with_date(given["timestamp"])
            values = {role: _read(role, given[role], source.is_text, bool(dates)) for role in found}
            refused = _refused(rows, found, given, values)
            refusals.add([*rows.refused, *refused.values()])
            for role, column in values.items():
                read[role].append(column)
            places.append(rows._replace(table=None, refused=[]))
    refusals.check()
    if not sum(map(len, read.get("rating", []))):
        raise DataError(f"{name} has no ratings.")
    ratings = pa.chunked_array(read["rating"]).to_numpy()
    times = pa.chunked_array(read["timestamp"]).to_numpy() if "timestamp" in read else None
    return RatingsTable(name, one_type(read["user"]), one_type(read["item"]), ratings, times, places)


def one_type(ids: list[pa.Array]) -> pa.ChunkedArray:
    """Ids as `as_written` gives them: all int64, or all string where some are."""
    kind = pa.string() if any(pa.types.is_string(chunk.type) for chunk in ids) else pa.int64()
    return pa.chunked_array([chunk.cast(kind) for chunk in ids], kind)


def _check_types(source: Source, found: dict[str, str]) -> None:
    for role in ("user", "item"):
        kind = source.schema.field(found[role]).type
        if not holds_ids(kind):
            raise DataError(
                f"{source.name}: {role} ids are of type {kind}; they must be integers or strings. "
                f"Convert them (floats, in pandas: astype('Int64'))."
            )


def _read(role: str, column: pa.Array, is_text: bool, dates: bool) -> pa.Array:
    """A column by its role, null where a value is none: ids, float32, or int64 seconds."""
    if role == "rating":
        return as_numbers(column, pa.float32())
    return as_seconds(column, dates) if role == "timestamp" else as_written(column, is_text)


def _refused(
    rows: Rows, found: dict[str, str], given: dict[str, pa.Array], values: dict[str, pa.Array]
) -> dict[int, RefusedRow]:
    """The refusals of rows with a null, by their places in the table."""
    refused: dict[int, RefusedRow] = {}
    for role, column in values.items():
        if not column.null_count:
            continue
        for place in np.flatnonzero(column.is_null().to_numpy(zero_copy_only=False)).tolist():
            value = given[role][place].as_py()
            if role in ("user", "item"):
                reason = why_not(value, pa.int64())
            elif value is None or value == "":
                reason = "no rating" if role == "rating" else "no time"
            else:
                reason = "not a finite number" if role == "rating" else NO_TIME
            refused.setdefault(place, rows.refuse(place, found[role], reason, value))
    return refused
