"""Times: seconds or milliseconds since 1970, ISO 8601 text, and Arrow's dates and timestamps."""

from __future__ import annotations

import contextlib
import re
from datetime import UTC, datetime

import pyarrow as pa
import pyarrow.compute as pc

from serve.reading.numbers import as_numbers
from serve.reading.rows import plain_text, where

# Seconds since 1970; the range of `datetime`.
YEAR_1, YEAR_10000 = -62_135_596_800, 253_402_300_800
FIRST_MILLISECONDS = 100_000_000_000
"""Larger numbers are milliseconds: as seconds this is the year 5138, as milliseconds March 1973."""
_DATE = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}([ T][0-9]{2}:[0-9]{2}.*)?$"


def begins_with_date(column: pa.Array) -> bool | None:
    """Whether the first text of a column is an ISO 8601 date; None: the column has no text."""
    column = plain_text(column)
    if not pa.types.is_string(column.type):
        return None
    first = next((cell.as_py() for cell in column if cell.as_py()), None)
    return None if first is None else bool(re.match("[0-9]{4}-", first))


def as_seconds(column: pa.Array, dates: bool = False) -> pa.Array:
    """Seconds since 1970, rounded down: int64 [n], null where there is no time in the years 1 to 9999.

    The column has numbers, dates, timestamps or text, which holds `dates` or numbers. A time without a zone
    is UTC.
    """
    column = plain_text(column)
    if pa.types.is_date(column.type) or pa.types.is_timestamp(column.type):
        with contextlib.suppress(pa.ArrowInvalid):
            column = pc.cast(column, pa.timestamp("s", getattr(column.type, "tz", None)), safe=False)
        seconds = column.cast(pa.int64())
    elif dates and pa.types.is_string(column.type):
        seconds = _dates(column)
    else:
        seconds = column if pa.types.is_integer(column.type) else as_numbers(column, pa.float64())
        # Beyond 2^53 a double has no precision of seconds.
        seconds = where(pc.less(pc.abs(seconds.cast(pa.float64(), safe=False)), 2.0**53), seconds)
        if not pa.types.is_integer(seconds.type):
            seconds = pc.floor(seconds)
        seconds = seconds.cast(pa.int64())
        milliseconds = pc.greater_equal(seconds, FIRST_MILLISECONDS)
        if pc.any(milliseconds).as_py():
            seconds = pc.if_else(milliseconds, pc.divide(seconds, 1000), seconds)
    return where(pc.and_(pc.greater_equal(seconds, YEAR_1), pc.less(seconds, YEAR_10000)), seconds)


def _dates(column: pa.Array) -> pa.Array:
    for kind in (pa.timestamp("us"), pa.timestamp("us", "UTC")):  # without a zone, with one
        with contextlib.suppress(pa.ArrowInvalid):
            seconds = pc.floor_temporal(column.cast(kind), unit="second")
            return seconds.cast(pa.timestamp("s", kind.tz)).cast(pa.int64())
    return pa.array([_date(text or "") for text in column.to_pylist()], pa.int64())


def _date(text: str) -> int | None:
    with contextlib.suppress(ValueError):
        if re.match(_DATE, text):
            time = datetime.fromisoformat(text)
            return int((time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp() // 1)
    return None
