"""Numbers, such as ratings: finite decimal ones."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from serve.reading.rows import plain_text

_NUMBER = r"^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?$"


def as_numbers(column: pa.Array, to: pa.DataType) -> pa.Array:
    """A column as pa.float32() or pa.float64() [n], null where there is no finite number.

    Args:
        column: Numbers of any type, or text with decimal numbers. Other types give nulls alone.
        to: The type.
    """
    column = plain_text(column)
    try:
        read = column.cast(to, safe=False)
    except pa.ArrowInvalid:
        is_number = pc.fill_null(pc.match_substring_regex(column, _NUMBER), False)
        read = pc.if_else(is_number, column, pa.scalar(None, column.type)).cast(to)
    except pa.ArrowNotImplementedError:
        return pa.nulls(len(column), to)
    finite = pc.is_finite(read)
    if pc.all(finite).as_py() and not finite.null_count:
        return read
    return pc.if_else(pc.fill_null(finite, False), read, pa.scalar(None, to))
