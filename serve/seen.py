"""`seen.parquet`: what each user has rated, looked up by user index without loading all of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa

from serve.parquet import write_columns


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
