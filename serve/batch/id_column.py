"""Columns of ids: their type is checked, and their ids become the bundle's indices."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pyarrow as pa

from serve.bundle.ids import IdIndex
from serve.errors import InputError
from serve.reading.ids import as_ids, is_string, why_not
from serve.reading.rows import RefusedRow, Rows, SourceColumns, joined

UnknownIds = Literal["average", "null", "error"]
"""An id that is not in the bundle gets the average's answer or no answer, or its row is a bad row."""


def check_id_type(source: SourceColumns, name: str, ids: IdIndex) -> None:
    """Check that a column can hold ids of the bundle's type. Raises InputError: it can't."""
    kind = source.schema.field(name).type
    if not (source.is_text or (is_string(kind) if ids.is_string else pa.types.is_integer(kind))):
        raise InputError(
            f"{source.name}: {name} is {kind}, and the bundle's ids are {ids.type_name}. Convert it."
        )


def read_ids(
    rows: Rows, name: str, ids: IdIndex, unknown: UnknownIds, refused: dict[int, RefusedRow]
) -> tuple[pa.Array, np.ndarray]:
    """Read a column that has passed `check_id_type`.

    Rows without a valid id are added to `refused` (position in the table -> refusal), unless already there.

    Returns:
        Ids int64 or string [n], null where invalid; indices int64 [n], 0 where invalid or unknown.
    """
    column, target = joined(rows.table.column(name)), pa.string() if ids.is_string else pa.int64()
    read = as_ids(column, target)
    if not read.null_count:
        index = ids.lookup(read)
    else:
        valid = read.is_valid()
        index = np.zeros(len(read), np.int64)
        index[valid.to_numpy(zero_copy_only=False)] = ids.lookup(read.filter(valid))
    if read.null_count or (unknown == "error" and not index.all()):
        for place in np.flatnonzero(index == 0).tolist():
            value, is_valid = column[place].as_py(), read[place].is_valid
            if not is_valid or unknown == "error":
                reason = "not in the bundle" if is_valid else why_not(value, target)
                refused.setdefault(place, rows.refuse(place, name, reason, value))
    return read, index
