"""Look-up of an id's index: a direct table for dense integers, bisection for others, a dict for strings.

Each of the three has `one` (id -> index), `many` (ids [n] -> int64 [n]), 0 where an id is not in the table,
and `n_distinct`, which is less than the number of rows where an id repeats. A dict takes 150 bytes an id.
"""

from __future__ import annotations

from itertools import repeat
from typing import Any

import numpy as np
import pyarrow as pa

from serve.bundle.parquet import numbers

# A direct table may have this many entries (4 bytes each) for each id.
MAX_SLOTS_PER_ID = 8
# A table this short is always made: 4 MiB and under a millisecond, for look-ups ten times as fast.
SHORTEST_TABLE = 1 << 20


class DenseLookup:
    """A table indexed by id - lowest id + 1. Its first and last entry, 0, are for ids below and above."""

    def __init__(self, values: np.ndarray, low: int, high: int) -> None:
        self.low = low
        self.last = high - low + 2
        # Differences wrap around, and only those of ids in the table lie between its ends. An array: as a
        # number, the lowest int64 has none before it.
        self.before = np.array([low]) - 1
        self.table = np.zeros(self.last + 1, np.int32)
        self.table[values - self.before] = np.arange(1, len(values) + 1, dtype=np.int32)
        self.n_distinct = int(np.count_nonzero(self.table))

    def one(self, value: int) -> int:
        """The index of one id."""
        place = value - self.low + 1
        return int(self.table[place]) if 0 < place < self.last else 0

    def many(self, values: Any) -> np.ndarray:
        """The indices of ids [n]: int64 [n]."""
        found: np.ndarray = self.table.take(values - self.before, mode="clip").astype(np.int64)
        return found


class SortedLookup:
    """Sorted ids and their indices, found by bisection."""

    def __init__(self, values: np.ndarray) -> None:
        order = np.argsort(values, kind="stable")
        self.sorted = values[order]
        self.index = order + 1
        self.n_distinct = 1 + int(np.count_nonzero(np.diff(self.sorted)))

    def one(self, value: int) -> int:
        """The index of one id."""
        place = int(self.sorted.searchsorted(value))
        return int(self.index[place]) if place < len(self.sorted) and self.sorted[place] == value else 0

    def many(self, values: Any) -> np.ndarray:
        """The indices of ids [n]: int64 [n]."""
        places = np.minimum(self.sorted.searchsorted(values), len(self.sorted) - 1)
        return np.where(self.sorted[places] == values, self.index[places], 0)


class StringLookup:
    """A dict from id to index."""

    def __init__(self, ids: pa.Array) -> None:
        self.index = {value: row for row, value in enumerate(ids.to_pylist(), 1)}
        self.n_distinct = len(self.index)

    def one(self, value: str) -> int:
        """The index of one id."""
        return self.index.get(value, 0)

    def many(self, values: Any) -> np.ndarray:
        """The indices of ids [n]: int64 [n]."""
        return np.fromiter(map(self.index.get, values, repeat(0)), np.int64, len(values))


class KnownRows:
    """A look-up of ids whose rows are not 1 to n: those of forgotten users lie between them."""

    def __init__(self, lookup: DenseLookup | SortedLookup | StringLookup, rows: np.ndarray) -> None:
        self.lookup = lookup
        self.rows = np.append(0, rows)
        self.n_distinct = lookup.n_distinct

    def one(self, value: Any) -> int:
        """The index of one id."""
        return int(self.rows[self.lookup.one(value)])

    def many(self, values: Any) -> np.ndarray:
        """The indices of ids [n]: int64 [n]."""
        found: np.ndarray = self.rows[self.lookup.many(values)]
        return found


IdLookup = DenseLookup | SortedLookup | StringLookup | KnownRows


def make_id_lookup(ids: pa.Array) -> DenseLookup | SortedLookup | StringLookup:
    """The fastest look-up for these ids, int64 or string [n]; the first id has index 1."""
    if ids.type == pa.string():
        return StringLookup(ids)
    values = numbers(ids)
    low, high = int(values.min()), int(values.max())
    if high - low < max(SHORTEST_TABLE, MAX_SLOTS_PER_ID * len(values)):
        return DenseLookup(values, low, high)
    return SortedLookup(values)
