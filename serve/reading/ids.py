"""Ids: int64 or strings. Text is an integer only if it is plain decimal: not 0x1F, 1_0, +5 or 1.0.

In a new data set, ids are integers if all of them are written as Python writes integers. One 007, or one id
that is no integer, in any file, makes all ids strings, as they are written.
"""

from __future__ import annotations

import re

import pyarrow as pa
import pyarrow.compute as pc

from serve.reading.rows import plain_text, where


def parse_integer(text: str) -> int | None:
    """The integer of 64 bits that ASCII digits, perhaps after a minus, stand for; None: it is none."""
    number = int(text) if re.fullmatch(r"-?0*[0-9]{1,19}", text) else None
    return None if number is None or not -(1 << 63) <= number < 1 << 63 else number


def holds_ids(kind: pa.DataType) -> bool:
    """Whether a column of this type may hold ids: integers or strings, also in a dictionary."""
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return bool(pa.types.is_integer(kind) or pa.types.is_null(kind) or is_string(kind))


def is_string(kind: pa.DataType) -> bool:
    """Whether this is one of Arrow's string types."""
    return kind in (pa.string(), pa.large_string(), pa.string_view())


def as_ids(column: pa.Array, to: pa.DataType) -> pa.Array:
    """Convert a column [n] that `holds_ids` to pa.int64() or pa.string(), null where there is no id.

    Integers become strings as Python writes them.
    """
    column = plain_text(column)
    if to == pa.string():
        return where(pc.not_equal(column, ""), column) if pa.types.is_string(column.type) else column.cast(to)
    try:
        ids = column.cast(to)
        # Arrow's cast reads 0x1F as 31.
        if (
            not pa.types.is_string(column.type)
            or not pc.any(pc.match_substring(column, "x", ignore_case=True)).as_py()
        ):
            return ids
    except pa.ArrowInvalid:  # not all of them are integers of 64 bits
        pass
    values = [value if value is None else parse_integer(str(value)) for value in column.to_pylist()]
    return pa.array(values, to)


def as_written(column: pa.Array, is_text: bool) -> pa.Array:
    """Ids of a new data set from a column as for `as_ids`: int64 or string [n], null where there is no id.

    Where the source is text, ids are integers if all are written as Python writes integers. Otherwise
    integers stay integers, and strings stay strings.
    """
    column = plain_text(column)
    if not pa.types.is_string(column.type):
        return as_ids(column, pa.int64())
    column = as_ids(column, pa.string())
    if not is_text:
        return column
    try:
        numbers = column.cast(pa.int64())
    except pa.ArrowInvalid:
        return column
    # 007, 0x1F and -0 are cast too. Positive numbers without a leading zero are written in one way only.
    lowest = pc.min(numbers).as_py()
    if lowest is None or (lowest > 0 and not pc.any(pc.starts_with(column, "0")).as_py()):
        return numbers
    return numbers if numbers.cast(pa.string()).equals(column) else column


def why_not(value: object, to: pa.DataType) -> str:
    """Why `as_ids` gives null for a value."""
    if value is None or value == "":
        return "no id"
    if to == pa.string():
        return "not a string"
    if isinstance(value, str) and re.fullmatch(r"-?[0-9]+\.0+", value):
        return "not an integer but a float: write ids without .0 (in pandas: astype('Int64'))"
    return "not an integer of 64 bits"
