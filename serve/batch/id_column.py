"""Columns of ids: their type is checked, and their ids become the bundle's indices."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from serve.bundle.ids import IdIndex
from serve.reading.ids import as_ids, check_type, is_float, why_not
from serve.reading.rows import RefusedRow, Rows, SourceColumns, joined, where

UnknownIds = Literal["average", "null", "error"]
"""An id that is not in the bundle gets the average's answer or no answer, or its row is a bad row."""


def check_id_type(source: SourceColumns, name: str, ids: IdIndex) -> None:
    """Check that a column can hold ids of the bundle's type. Raises InputError: it can't."""
    check_type(source, name, ids.type, "the bundle's")


def read_ids(
    rows: Rows, name: str, ids: IdIndex, unknown: UnknownIds, refused: dict[int, RefusedRow]
) -> tuple[pa.Array, np.ndarray]:
    """Read a column that has passed `check_id_type`.

    Text that a float was written as is no id, unless the bundle has it. Rows without a valid id are added to
    `refused` (position in the table -> refusal), unless already there.

    Returns:
        Ids int64 or string [n], null where invalid; indices int64 [n], 0 where invalid or unknown.
    """
    column = joined(rows.table.column(name))
    read = as_ids(column, ids.type)
    if not read.null_count:
        index = ids.lookup(read)
    else:
        valid = read.is_valid()
        index = np.zeros(len(read), np.int64)
        index[valid.to_numpy(zero_copy_only=False)] = ids.lookup(read.filter(valid))
    if ids.is_string and rows.unit == "line" and not index.all():
        read = where(pc.or_(pa.array(index > 0), pc.invert(is_float(read))), read)
    if read.null_count or (unknown == "error" and not index.all()):
        for place in np.flatnonzero(index == 0).tolist():
            value, is_valid = column[place].as_py(), read[place].is_valid
            if not is_valid or unknown == "error":
                reason = "not in the bundle" if is_valid else why_not(value)
                refused.setdefault(place, rows.refuse(place, name, reason, value))
    return read, index
