"""Ids: int64 or strings. Text is an integer only where it is a plain decimal one: no 0x1F, 1_0, +5 or 1.0.

In a new data set, ids are integers if all of them are written as Python writes integers. So 007 is a string,
and integers can be turned back into exactly the text that they were read from: where one file, or one row
late in it, has an id that is no integer, all ids become strings as they are written.
"""

from __future__ import annotations

import re

import pyarrow as pa
import pyarrow.compute as pc

from serve.reading.rows import plain_text

_INTEGER = re.compile(r"-?0*[0-9]{1,19}")


def parse_integer(text: str) -> int | None:
    """The integer that ASCII digits, perhaps after a minus, stand for; None: no integer of 64 bits."""
    if not _INTEGER.fullmatch(text):
        return None
    number = int(text)
    return number if -(1 << 63) <= number < 1 << 63 else None


def holds_ids(kind: pa.DataType) -> bool:
    """Whether a column of this type may hold ids: integers or strings, also as a dictionary or a view."""
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return bool(pa.types.is_integer(kind) or pa.types.is_null(kind) or is_string(kind))


def is_string(kind: pa.DataType) -> bool:
    """Whether this is one of Arrow's types of strings."""
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def as_ids(column: pa.Array, to: pa.DataType) -> pa.Array:
    """Ids as the type that a bundle, or a whole data set, has: int64 or string [n], null where there is none.

    Args:
        column: Integers or strings, see `holds_ids`.
        to: pa.int64() or pa.string(). An integer becomes a string as Python writes it.
    """
    column = plain_text(column)
    if not pa.types.is_string(column.type):
        return _cast(column, to)
    if to == pa.string():
        is_empty = pc.equal(column, "")
        return pc.if_else(is_empty, pa.scalar(None, to), column) if pc.any(is_empty).as_py() else column
    try:
        read = column.cast(pa.int64())
    except pa.ArrowInvalid:  # not all of them are integers, or fit into 64 bits
        return _each(column)
    # Arrow's cast reads 0x1F as 31.
    return _each(column) if pc.any(pc.match_substring(column, "x", ignore_case=True)).as_py() else read


def as_written(column: pa.Array, is_text: bool) -> pa.Array:
    """Ids of a new data set, null where there is none: int64 or string [n].

    Args:
        column: See `as_ids`.
        is_text: Whether its source has no types: then ids are integers if all that are there are written as
            Python writes integers. Otherwise integers stay integers, and strings strings.
    """
    column = plain_text(column)
    if not pa.types.is_string(column.type):
        return _cast(column, pa.int64())
    column = as_ids(column, pa.string())
    if not is_text:
        return column
    try:
        numbers = column.cast(pa.int64())
    except pa.ArrowInvalid:
        return column
    # 007, 0x1F and -0 are cast too. Without a zero in front or a minus, there is no other way to write it.
    if (lowest := pc.min(numbers).as_py()) is None:
        return numbers
    if lowest > 0 and not pc.any(pc.starts_with(column, "0")).as_py():
        return numbers
    return numbers if numbers.cast(pa.string()).equals(column) else column


def why_not(value: object, to: pa.DataType) -> str:
    """What is wrong with a value for which `as_ids` gives null."""
    if value is None or value == "":
        return "no id"
    if to == pa.string():
        return "not a string"
    if isinstance(value, str) and re.fullmatch(r"-?[0-9]+\.0+", value):
        return "not an integer but a float: write ids without .0 (in pandas: astype('Int64'))"
    return "not an integer of 64 bits"


def _cast(column: pa.Array, to: pa.DataType) -> pa.Array:
    try:
        return column.cast(to)
    except pa.ArrowInvalid:  # unsigned, and beyond 2^63
        return _each(column)


def _each(column: pa.Array) -> pa.Array:
    values = [value if value is None else parse_integer(str(value)) for value in column.to_pylist()]
    return pa.array(values, pa.int64())
