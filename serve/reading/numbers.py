"""Numbers, such as ratings: finite and decimal."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from serve.reading.cells import NUMBER
from serve.reading.rows import plain_text, where


def as_numbers(column: pa.Array, to: pa.DataType) -> pa.Array:
    """Convert a column [n] to `to`, pa.float32() or pa.float64(); null where it holds no finite number.

    Numbers of any type and text with decimal numbers are converted; other types give only nulls, also truth
    values, as the text "true" does.
    """
    column = plain_text(column)
    if pa.types.is_boolean(column.type):
        return pa.nulls(len(column), to)
    try:
        numbers = column.cast(to, safe=False)
    except pa.ArrowInvalid:
        numbers = where(pc.match_substring_regex(column, NUMBER), column).cast(to)
    except pa.ArrowNotImplementedError:
        return pa.nulls(len(column), to)
    return where(pc.is_finite(numbers), numbers)
