"""Ids of an input as the bundle has them, and the rows whose id is none."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from serve.bundle.ids import IdIndex
from serve.bundle.parquet import joined
from serve.errors import InputError

# As Arrow's cast has it; int() would take other scripts' digits, and underscores.
INTEGER = re.compile(r"-?0*[0-9]{1,19}")


class Wrong(NamedTuple):
    """A row of the table whose id is none."""

    place: int
    column: str
    reason: str
    value: int | str | None


def check_id_column(source: str, schema: pa.Schema, ids: IdIndex, is_text: bool) -> None:
    """Refuse an input without the column, or with one that can't hold such ids.

    Raises:
        InputError: so it is.
    """
    if ids.name not in schema.names:
        raise InputError(f"{source} has no column {ids.name}. It has: {', '.join(schema.names)}.")
    kind = schema.field(ids.name).type
    if is_text or (_is_string(kind) if ids.is_string else pa.types.is_integer(kind)):
        return
    raise InputError(f"{source}: {ids.name} is {kind}, and the bundle's ids are {ids.type_name}. Convert it.")


def read_ids(column: pa.ChunkedArray, ids: IdIndex, is_text: bool) -> tuple[pa.Array, list[Wrong]]:
    """One column: the ids as int64 or string [n], null where there is none; and what is wrong with those."""
    array = joined(column)
    target = pa.string() if ids.is_string else pa.int64()
    if is_text:
        array = pc.if_else(pc.equal(array, ""), pa.scalar(None, array.type), array)
    try:
        read = array.cast(target)
        if not ids.is_string and _is_string(array.type) and _has_hexadecimal(array):
            read = _each(array, _integer)
    except pa.ArrowInvalid:  # not all of them are numbers, or fit into 64 bits
        read = _each(array, _integer)
    if not read.null_count:
        return read, []
    places = np.flatnonzero(read.is_null().to_numpy(zero_copy_only=False)).tolist()
    wrong = []
    for place in places:
        value = array[place].as_py()
        reason = "no id" if value is None else f"not {ids.type_name}"
        wrong.append(Wrong(place, ids.name, reason, value))
    return read, wrong


def look_up(column: pa.Array, ids: IdIndex) -> np.ndarray:
    """Their indices: int64 [n], 0 also where there is no id."""
    if not column.null_count:
        return ids.lookup(column)
    index = np.zeros(len(column), np.int64)
    is_id = column.is_valid()
    index[is_id.to_numpy(zero_copy_only=False)] = ids.lookup(column.filter(is_id))
    return index


def _is_string(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _each(array: pa.Array, read: Callable[[Any], int | None]) -> pa.Array:
    return pa.array([read(value) for value in array.to_pylist()], pa.int64())


def _has_hexadecimal(array: pa.Array) -> bool:
    """Whether a cell begins with 0x, which Arrow's cast reads and `_integer` does not."""
    starts = (pc.starts_with(array, prefix) for prefix in ("0x", "0X"))
    return any(pc.any(found).as_py() for found in starts)


def _integer(value: int | str | None) -> int | None:
    if value is None or (isinstance(value, str) and not INTEGER.fullmatch(value)):
        return None
    number = int(value)
    return number if -(1 << 63) <= number < 1 << 63 else None
