"""Ids of an input as the bundle has them, and the rows whose id is none."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from serve.batch.task_result import UnknownIds
from serve.bundle.ids import IdIndex
from serve.errors import InputError
from serve.reading.ids import as_ids, is_string, why_not
from serve.reading.rows import RefusedRow, Rows, Source, joined


def check_id_column(source: Source, ids: IdIndex) -> None:
    """Refuse an input without a column for ids, or with one of another type.

    Raises:
        InputError: the column is missing, or can't hold ids of the bundle's type.
    """
    if ids.name not in source.schema.names:
        raise InputError(f"{source.name} has no column {ids.name}. It has: {', '.join(source.schema.names)}.")
    kind = source.schema.field(ids.name).type
    if source.is_text or (is_string(kind) if ids.is_string else pa.types.is_integer(kind)):
        return
    raise InputError(
        f"{source.name}: {ids.name} is {kind}, and the bundle's ids are {ids.type_name}. Convert it."
    )


def read_ids(
    rows: Rows, ids: IdIndex, unknown: UnknownIds, refused: dict[int, RefusedRow]
) -> tuple[pa.Array, np.ndarray]:
    """One column of ids.

    Args:
        rows: With a column that `check_id_column` has accepted.
        ids: The bundle's.
        unknown: Whether ids that are not in the bundle are refused.
        refused: By place in the table. Rows without an id are added, unless they are there.

    Returns:
        Ids int64 or string [n], null where there is none; indices int64 [n], 0 where there is none, or the
        bundle does not have it.
    """
    column, target = joined(rows.table.column(ids.name)), pa.string() if ids.is_string else pa.int64()
    read = as_ids(column, target)
    if not read.null_count:
        index = ids.lookup(read)
    else:
        is_id = read.is_valid()
        index = np.zeros(len(read), np.int64)
        index[is_id.to_numpy(zero_copy_only=False)] = ids.lookup(read.filter(is_id))
    if read.null_count or (unknown == "error" and not index.all()):
        for place in np.flatnonzero(index == 0).tolist():
            value = column[place].as_py()
            if not read[place].is_valid:
                refused.setdefault(place, rows.refuse(place, ids.name, why_not(value, target), value))
            elif unknown == "error":
                refused.setdefault(place, rows.refuse(place, ids.name, "not in the bundle", value))
    return read, index
