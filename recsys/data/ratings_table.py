"""Columns as they were read -> ratings that can be trusted, or an error that shows the offending rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NoReturn

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recsys.errors import DataError

SHOWN = 5
"""How many offending rows an error shows."""


@dataclass(frozen=True)
class Source:
    """Where rows came from, so that an error can show them."""

    file: str
    quote: Callable[[list[int]], list[str]]
    """Row numbers (from 0, ascending) -> those rows in the source's own words, "line 7: 1,2,abc"."""

    def refuse(self, rows: list[int], what: str, way_out: str) -> NoReturn:
        """Raise DataError: how many rows (ascending), the first of them, the way out."""
        shown = "\n  ".join(self.quote(rows[:SHOWN]))
        more = f"\n  … and {len(rows) - SHOWN:,} more" if len(rows) > SHOWN else ""
        raise DataError(f"{self.file}: {len(rows):,} {what}:\n  {shown}{more}\n{way_out}.")


@dataclass(frozen=True, eq=False)
class RatingsTable:
    """Ratings with the ids of their source, rows in its order. n > 0."""

    user_ids: pa.ChunkedArray
    """int64 or string [n], no null, no empty string."""
    item_ids: pa.ChunkedArray
    """int64 or string [n], no null, no empty string."""
    ratings: np.ndarray
    """float32 [n], finite."""
    timestamps: np.ndarray | None
    """int64 [n], seconds since 1970."""
    source: Source


def checked(columns: dict[str, pa.ChunkedArray], source: Source) -> RatingsTable:
    """Check and convert `columns`: user, item (integers or strings), rating (numbers), maybe timestamp.

    Raises:
        DataError: no rows, null ids, ratings that are null, NaN or infinite, timestamps that are null or
            no time; with the count, the first offending rows and the way out.
    """
    if len(columns["rating"]) == 0:
        raise DataError(f"{source.file} has no ratings.")
    user_ids = _ids(columns["user"], "user", source)
    item_ids = _ids(columns["item"], "item", source)
    try:
        ratings = pc.cast(columns["rating"], pa.float32(), safe=False)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        raise DataError(
            f"{source.file}: the rating column is of type {columns['rating'].type}, not numbers."
        ) from None
    # NaN is not null to Arrow, and is_finite(null) is null: both count.
    bad = pc.invert(pc.fill_null(pc.is_finite(ratings), False))
    refuse(bad, "ratings are missing, NaN or infinite", "Remove or correct these rows", source)
    timestamps = _seconds(columns["timestamp"], source) if "timestamp" in columns else None
    return RatingsTable(user_ids, item_ids, ratings.to_numpy(), timestamps, source)


def refuse(bad: pa.ChunkedArray, what: str, way_out: str, source: Source) -> None:
    """Raise DataError if any of `bad`, bool [n], is true."""
    rows = np.flatnonzero(bad.to_numpy())
    if len(rows):
        source.refuse(rows.tolist(), what, way_out)


def _ids(ids: pa.ChunkedArray, role: str, source: Source) -> pa.ChunkedArray:
    """int64 or string, whole and not empty."""
    if pa.types.is_dictionary(ids.type):
        ids = ids.cast(ids.type.value_type)
    if pa.types.is_integer(ids.type):
        try:
            ids = ids.cast(pa.int64())
        except pa.ArrowInvalid as error:
            raise DataError(
                f"{source.file}: a {role} id does not fit into 64 bits with a sign ({error})."
            ) from None
        bad = ids.is_null()
    elif pa.types.is_string(ids.type) or pa.types.is_large_string(ids.type) or pa.types.is_null(ids.type):
        ids = ids.cast(pa.string())
        bad = pc.fill_null(pc.equal(ids, ""), True)
    else:
        raise DataError(
            f"{source.file}: {role} ids are of type {ids.type}; they must be integers or strings."
        )
    refuse(bad, f"{role} ids are missing", "Remove these rows, or give them an id", source)
    return ids


# Seconds since 1970; calendars end there.
YEAR_1, YEAR_10000 = -62_135_596_800, 253_402_300_800


def _seconds(times: pa.ChunkedArray, source: Source) -> np.ndarray:
    """int64 [n], seconds since 1970; a time without a zone is taken as UTC."""
    way_out = "Correct these rows, or leave the column out with --timestamp-column ''"
    refuse(times.is_null(), "timestamps are missing", way_out, source)
    kind = times.type
    if pa.types.is_temporal(kind) and not pa.types.is_time(kind) and not pa.types.is_duration(kind):
        times = pc.cast(times, pa.timestamp("s", getattr(kind, "tz", None)), safe=False).cast(pa.int64())
    elif pa.types.is_floating(kind):
        # Beyond 2^53 a double is no whole second, NaN and infinity are none either.
        bad = pc.invert(pc.less(pc.abs(times), 2.0**53))
        refuse(bad, "timestamps are no time", way_out, source)
        times = pc.cast(pc.floor(times), pa.int64())
    elif pa.types.is_integer(kind):
        times = times.cast(pa.int64())
    else:
        raise DataError(f"{source.file}: the timestamp column is of type {kind}. {way_out}.")
    outside = pc.invert(pc.and_(pc.greater_equal(times, YEAR_1), pc.less(times, YEAR_10000)))
    hint = "Seconds since 1970 are meant: divide milliseconds by 1000. " + way_out
    refuse(outside, "timestamps are no seconds in the years 1 to 9999", hint, source)
    seconds: np.ndarray = times.to_numpy()
    return seconds
