"""`seen.parquet`: what each user has rated, looked up by user index without loading all of it."""

from __future__ import annotations

import threading
from bisect import bisect_left, bisect_right
from collections import OrderedDict
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from serve.bundle.parquet import ParquetTable, numbers, write_columns
from serve.errors import BundleError


def write_seen(
    path: Path,
    user_index: np.ndarray,
    item_index: np.ndarray,
    ratings: np.ndarray,
    timestamps: np.ndarray | None = None,
) -> None:
    """Write `seen.parquet`, sorted by user, then item; the order of the input does not matter.

    Args:
        path: The file to make.
        user_index: int [n], from 1.
        item_index: int [n], from 1; a (user, item) pair comes once.
        ratings: float [n], finite.
        timestamps: int [n], seconds since 1970; None where the data has none.

    Raises:
        ValueError: lengths that differ, an index below 1, a pair that comes twice, a rating not finite.
    """
    users, items = np.asarray(user_index, np.int32), np.asarray(item_index, np.int32)
    values = np.asarray(ratings, np.float32)
    if not len(users) == len(items) == len(values) or (
        timestamps is not None and len(timestamps) != len(users)
    ):
        raise ValueError(f"lengths differ: {len(users)} users, {len(items)} items, {len(values)} ratings")
    if len(users) and (users.min() < 1 or items.min() < 1):
        raise ValueError(f"indices start at 1: lowest user {users.min()}, lowest item {items.min()}")
    if not np.isfinite(values).all():
        raise ValueError(f"{np.count_nonzero(~np.isfinite(values))} ratings are not finite")
    key = users.astype(np.int64) << 32 | items
    order = np.argsort(key, kind="stable")
    if len(key) and not (np.diff(key[order]) > 0).all():
        twice = key[order][1:][np.diff(key[order]) == 0][0]
        raise ValueError(f"user {twice >> 32} has item {twice & 0xFFFFFFFF} more than once")
    columns = {
        "user_index": pa.array(users[order]),
        "item_index": pa.array(items[order]),
        "rating": pa.array(values[order]),
    }
    if timestamps is not None:
        columns["timestamp"] = pa.array(np.asarray(timestamps, np.int64)[order])
    write_columns(path, columns)


def seen_table(path: Path) -> ParquetTable:
    """`seen.parquet`, open. Raises BundleError: a column is missing or of another type."""
    types = {
        "user_index": [pa.int32()],
        "item_index": [pa.int32()],
        "rating": [pa.float32()],
        "timestamp": [pa.int64()],
    }
    return ParquetTable(path, types, optional=["timestamp"])


class History(NamedTuple):
    """What one user has rated, by rising item index."""

    item_indices: np.ndarray
    """int32 [n]"""
    ratings: np.ndarray
    """float32 [n]"""
    timestamps: np.ndarray | None
    """int64 [n], seconds since 1970; None where the data has none."""


class ItemLists(NamedTuple):
    """B lists of items of any length, stored one after the other."""

    starts: np.ndarray
    """int64 [B + 1]"""
    items: np.ndarray
    """int32 [n]"""

    @classmethod
    def empty(cls, n: int) -> ItemLists:
        """`n` empty lists."""
        return cls(np.zeros(n + 1, np.int64), np.empty(0, np.int32))

    @property
    def lengths(self) -> np.ndarray:
        """int64 [B]"""
        return np.diff(self.starts)

    def padded(self, rows: np.ndarray | slice = slice(None)) -> np.ndarray:
        """Some of the lists, by default all: int64 [rows, E], 0-padded to the longest, E at least 1."""
        lengths = self.lengths[rows]
        result = np.zeros((len(lengths), max(1, int(lengths.max(initial=0)))), np.int64)
        row = np.repeat(np.arange(len(lengths)), lengths)
        result[row, _ranges(np.zeros_like(lengths), lengths)] = self.items[
            _ranges(self.starts[:-1][rows], lengths)
        ]
        return result


class _Group(NamedTuple):
    """A decoded row group: the items of `users[i]` are `items[starts[i]:starts[i + 1]]`."""

    users: np.ndarray  # int64 [u], rising; `searchsorted` would convert another type at each call
    starts: np.ndarray  # int64 [u + 1]
    items: np.ndarray  # int32 [n]

    @property
    def n_bytes(self) -> int:
        return self.users.nbytes + self.starts.nbytes + self.items.nbytes


class Seen:
    """The items that each user has rated, decoded a row group at a time into a bounded cache. Thread-safe.

    The row groups' statistics say which of them hold a user: mostly one, or two neighbours. Look-ups in the
    order of users decode each row group once.

    Args:
        path: `seen.parquet`.
        n_users: Users of the model; a larger index means that the file is damaged.
        n_items: Items of the model, likewise.
        budget_bytes: Size of the cache of decoded row groups (0.3 MiB each), which holds at least one.

    Raises:
        BundleError: the file is damaged, or not sorted.
    """

    def __init__(self, path: Path, n_users: int, n_items: int, budget_bytes: int = 64 << 20) -> None:
        self._file = seen_table(path)
        self._path, self._n_items, self._budget = path, n_items, budget_bytes
        self._lows, self._highs = self._file.ranges("user_index")
        # For a single user: `bisect` is quicker than numpy.
        self._low_list, self._high_list = self._lows.tolist(), self._highs.tolist()
        ends = np.concatenate([[1], np.column_stack([self._lows, self._highs]).ravel(), [n_users]])
        if (np.diff(ends) < 0).any():
            raise self._damaged(f"its row groups are not sorted by user, or name users beyond {n_users}")
        self._groups: OrderedDict[int, _Group] = OrderedDict()
        self._n_bytes = 0
        self._lock = threading.Lock()

    def __len__(self) -> int:
        """Number of ratings."""
        return self._file.n_rows

    def check(self) -> None:
        """Decode every row group once. Raises BundleError: one is damaged, or has a rating not finite."""
        for number in range(self._file.n_row_groups):
            self._decode(number)
            ratings = numbers(self._file.read(["rating"], number)["rating"])
            if not np.isfinite(ratings).all():
                raise self._damaged(f"row group {number} has a rating not finite")

    def of_user(self, user_index: int) -> np.ndarray:
        """The items that a user has rated: int32 [n], rising, read-only; empty for row 0."""
        parts = []
        for number in self._holding(user_index):
            group = self._group(number)
            place = int(group.users.searchsorted(user_index))
            if place < len(group.users) and group.users[place] == user_index:
                parts.append(group.items[group.starts[place] : group.starts[place + 1]])
        if len(parts) == 1:
            return parts[0]
        return np.concatenate(parts) if parts else np.empty(0, np.int32)

    def padded(self, user_index: np.ndarray) -> np.ndarray:
        """The items that each of `user_index` (int64 [B]) has rated: int64 [B, E], 0-padded, E at least 1."""
        if len(user_index) == 1:
            items = self.of_user(int(user_index[0]))
            return items.astype(np.int64)[None] if len(items) else np.zeros((1, 1), np.int64)
        return self.of_users(user_index).padded()

    def of_users(self, user_index: np.ndarray) -> ItemLists:
        """The items that each of `user_index` (int64 [B]) has rated; each row group is decoded once."""
        first = self._highs.searchsorted(user_index, "left")
        last = self._lows.searchsorted(user_index, "right")
        counts = np.zeros(len(user_index), np.int64)
        parts: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
        for number in _covered(first, last):
            group = self._group(number)
            row = np.flatnonzero((first <= number) & (number < last))
            place = np.minimum(group.users.searchsorted(user_index[row]), len(group.users) - 1)
            found = group.users[place] == user_index[row]
            row, place = row[found], place[found]
            n_items = group.starts[place + 1] - group.starts[place]
            parts.append((row, n_items, group.items[_ranges(group.starts[place], n_items)]))
            counts[row] += n_items
        starts = np.concatenate([[0], np.cumsum(counts)])
        items = np.empty(starts[-1], np.int32)
        free = starts[:-1].copy()
        for row, n_items, found in parts:  # a user whose items lie in two row groups comes twice
            items[_ranges(free[row], n_items)] = found
            free[row] += n_items
        return ItemLists(starts, items)

    def history(self, user_index: int) -> History:
        """What a user has rated, with ratings and dates; nothing is cached."""
        types = {"item_index": np.int32, "rating": np.float32, "timestamp": np.int64}
        parts = {name: [np.empty(0, kind)] for name, kind in types.items() if name in self._file.columns}
        for number in self._holding(user_index):
            with self._lock:
                columns = self._file.read(self._file.columns, number)
            users = numbers(columns["user_index"])
            place = slice(*users.searchsorted(np.array([user_index, user_index + 1], np.int32)))
            for name, found in parts.items():
                found.append(numbers(columns[name])[place])
        whole = {name: np.concatenate(found) for name, found in parts.items()}
        items, ratings = whole["item_index"], whole["rating"]
        if len(items) and (items[0] < 1 or items[-1] > self._n_items or not np.isfinite(ratings).all()):
            raise self._damaged(
                f"user {user_index} has an item beyond {self._n_items}, or a rating not finite"
            )
        return History(items, ratings, whole.get("timestamp"))

    def _holding(self, user_index: int) -> range:
        """The row groups that may hold a user."""
        return range(bisect_left(self._high_list, user_index), bisect_right(self._low_list, user_index))

    def _group(self, number: int) -> _Group:
        with self._lock:
            group = self._groups.get(number)
            if group is not None:
                self._groups.move_to_end(number)
                return group
            group = self._decode(number)
            self._groups[number] = group
            self._n_bytes += group.n_bytes
            while self._n_bytes > self._budget and len(self._groups) > 1:
                self._n_bytes -= self._groups.popitem(last=False)[1].n_bytes
            return group

    def _decode(self, number: int) -> _Group:
        columns = self._file.read(["user_index", "item_index"], number)
        user, item = (numbers(columns[name]) for name in ("user_index", "item_index"))
        if not len(user):
            raise self._damaged(f"row group {number} is empty")
        if item.min() < 1 or item.max() > self._n_items:
            raise self._damaged(
                f"row group {number} has items from {item.min()} to {item.max()}, not 1 to {self._n_items}"
            )
        key = user.astype(np.int64) << 32 | item
        if user[0] != self._lows[number] or user[-1] != self._highs[number] or (np.diff(key) <= 0).any():
            raise self._damaged(f"row group {number} is not sorted by user and item")
        starts = np.concatenate([[0], np.flatnonzero(np.diff(user)) + 1, [len(user)]])
        return _Group(user[starts[:-1]].astype(np.int64), starts, item)

    def _damaged(self, what: str) -> BundleError:
        return BundleError(f"{self._path} is damaged: {what}. Copy or export the bundle again.")


def _covered(first: np.ndarray, last: np.ndarray) -> np.ndarray:
    """The numbers in the union of the ranges [first, last), rising: int64."""
    if not len(first):
        return np.empty(0, np.int64)
    return np.unique(
        np.concatenate([np.arange(a, b) for a, b in {*zip(first.tolist(), last.tolist(), strict=True)}])
    )


def _ranges(starts: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """The ranges of `counts[i]` numbers from `starts[i]`, one after the other: int64 [sum of counts]."""
    ends = np.cumsum(counts)
    result: np.ndarray = np.arange(counts.sum()) - np.repeat(ends - counts - starts, counts)
    return result
