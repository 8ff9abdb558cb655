"""Ids: int64 or strings. Text is an integer only if it is plain decimal: not 0x1F, 1_0, +5 or 1.0.

In a new data set, ids are integers if all of them are written as Python writes integers. One 007, or one id
that is no integer, in any file, makes all ids strings, as they are written. Text that a float was written as,
1.0, 1e+05 or 1.23E+12, is no id: it stands for another one, or for several.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc

from serve.errors import InputError
from serve.reading.cells import parse_integer
from serve.reading.rows import SourceColumns, plain_text, where

_WHOLE_FLOAT = r"^-?[0-9]+\.0+$"
_ROUNDED_FLOAT = r"^-?[0-9](\.[0-9]+)?[eE]\+[0-9]+$"  # of a spreadsheet or R; 12e4 may be a hash


def holds_ids(kind: pa.DataType) -> bool:
    """Whether a column of this type may hold ids: integers, decimals without a fraction, or strings, also in
    a dictionary.
    """
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return bool(_is_integer(kind) or pa.types.is_null(kind) or is_string(kind))


def is_string(kind: pa.DataType) -> bool:
    """Whether this is one of Arrow's string types."""
    return kind in (pa.string(), pa.large_string(), pa.string_view())


def check_type(source: SourceColumns, name: str, to: pa.DataType | None = None, whose: str = "") -> None:
    """Check that a column can hold ids: those of `whose`, of type `to` (int64 or string); None: of either.

    Raises InputError: it can't.
    """
    kind = source.schema.field(name).type
    if not holds_ids(kind):
        raise InputError(
            f"{source.name}: {name} is of type {kind}; ids must be integers or strings. Convert it "
            f"(floats, in pandas: astype('Int64'))."
        )
    if to is None or source.is_text or pa.types.is_null(kind) or is_string(kind) == is_string(to):
        return
    ids = "strings, whose leading zeros an integer has lost" if is_string(to) else "integers"
    raise InputError(f"{source.name}: {name} is of type {kind}, and {whose} ids are {ids}. Convert it.")


def _is_integer(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or (pa.types.is_decimal(kind) and kind.scale == 0))


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


def as_written(column: pa.Array, is_text: bool, to: pa.DataType | None = None) -> pa.Array:
    """Ids from a column as for `as_ids`, of type `to`; null where there is no id, or a float in text.

    Where `to` is None, as in a new data set: int64 or string [n]. Where the source is text, ids are integers
    if all are written as Python writes integers. Otherwise integers stay integers, and strings stay strings.
    """
    column = plain_text(column)
    if to == pa.int64() or not pa.types.is_string(column.type):
        return as_ids(column, to or pa.int64())
    column = as_ids(column, pa.string())
    if not is_text:
        return column
    if to == pa.string():
        return where(pc.invert(is_float(column)), column)
    try:
        numbers = column.cast(pa.int64())
    except pa.ArrowInvalid:
        return where(pc.invert(is_float(column)), column)
    # 007, 0x1F and -0 are cast too. Positive numbers without a leading zero are written in one way only.
    lowest = pc.min(numbers).as_py()
    if lowest is None or (lowest > 0 and not pc.any(pc.starts_with(column, "0")).as_py()):
        return numbers
    return numbers if numbers.cast(pa.string()).equals(column) else column


def one_type(ids: Sequence[pa.Array]) -> pa.ChunkedArray:
    """Ids from `as_written`, part by part: all int64, or all string if some are."""
    kind = pa.string() if any(pa.types.is_string(part.type) for part in ids) else pa.int64()
    return pa.chunked_array([part.cast(kind) for part in ids], kind)


def is_float(column: pa.Array) -> pa.Array:
    """Whether a float was written as this text, string [n] -> bool [n]: 1.0, 1e+05 or 1.23E+12."""
    return pc.match_substring_regex(column, f"{_WHOLE_FLOAT}|{_ROUNDED_FLOAT}")


def why_not(value: object) -> str:
    """Why `as_ids` or `as_written` gives null for a value."""
    if value is None or value == "":
        return "no id"
    if isinstance(value, str) and re.match(_WHOLE_FLOAT, value):
        return (
            "not an integer but a float: write ids without .0 (in pandas: astype('Int64')); an id that is "
            "meant so goes into Parquet, as a string"
        )
    if isinstance(value, str) and re.match(_ROUNDED_FLOAT, value):
        return "a rounded number, as spreadsheets and R write long ids: write ids with all of their digits"
    return "not an integer of 64 bits"
