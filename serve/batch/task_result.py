"""What a task makes of a stretch of rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
import pyarrow as pa

from serve.batch.id_column import Wrong
from serve.batch.source import BadRow, Rows

UnknownIds = Literal["average", "null", "error"]
"""What an id that is not in the bundle gets: the average's answer, none, or it is a bad row."""


class TaskResult(NamedTuple):
    """Rows of the output, and the rows of the input that have none."""

    table: pa.Table
    bad: list[BadRow]


def without(rows: Rows, source: str, wrong: Sequence[Wrong]) -> tuple[np.ndarray, list[BadRow]]:
    """Set rows aside: which stay, bool [n], and all bad ones in order, those that were no row among them.

    A row with two wrong ids is told by the first.
    """
    stay = np.ones(len(rows.table), bool)
    bad = list(rows.bad)
    for place, column, reason, value in wrong:
        if stay[place]:
            stay[place] = False
            bad.append(BadRow(source, int(rows.numbers[place]), column, reason, value))
    return stay, sorted(bad, key=lambda row: row.row)


def unknown_ids(name: str, ids: pa.Array, index: np.ndarray) -> list[Wrong]:
    """Ids that the bundle does not have (index 0), as bad rows."""
    places = np.flatnonzero((index == 0) & ~ids.is_null().to_numpy(zero_copy_only=False)).tolist()
    values = ids.take(pa.array(places, pa.int64())).to_pylist()
    return [
        Wrong(place, name, "not in the bundle", value) for place, value in zip(places, values, strict=True)
    ]
