"""Checks of arguments before they reach a graph.

An index out of range is an error on one device and a silent zero on another, so graphs get none.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from serve.errors import RequestError

DEFAULT_TOP_K = 10


def is_one(value: Any) -> bool:
    """Whether a value is one id rather than a list of ids. Sets and dicts are not lists."""
    if isinstance(value, (str, bytes, dict, set, frozenset)):
        return True
    if isinstance(value, np.ndarray):
        return value.ndim == 0
    return not hasattr(value, "__len__")


def top_k(value: Any, largest: int, n_items: int) -> int:
    """The length of a list: an int from 1 to `largest`; None: ten, or `largest` if that is less.

    Raises:
        RequestError: another type, or out of range.
    """
    if value is None:
        return min(DEFAULT_TOP_K, largest)
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise RequestError(f"top_k must be an integer, got {value!r}")
    if not 1 <= value <= largest:
        advice = ""
        if value > largest:
            advice = (
                " Export with a larger --top-k for more." if largest < n_items else " It has no more items."
            )
        raise RequestError(f"top_k must lie in 1 to {largest}, what this bundle ranks, got {value}.{advice}")
    return int(value)


def indices(name: str, value: np.ndarray, n_dims: int, highest: int) -> np.ndarray:
    """Indices from 0 to `highest` as contiguous int64. Raises RequestError: wrong shape, type or range."""
    array = np.asarray(value)
    if array.ndim != n_dims or array.dtype.kind not in "iu":
        raise RequestError(f"{name} must be integers with {n_dims} axes, got {array.dtype} {array.shape}")
    if array.size and (array.min() < 0 or array.max() > highest):
        wrong = array[(array < 0) | (array > highest)][0]
        raise RequestError(f"{name} must lie in 0 to {highest}, got {wrong}")
    return np.ascontiguousarray(array, np.int64)


def exclusions(rows: Sequence[np.ndarray], n_rows: int, highest: int) -> np.ndarray:
    """Rows of item indices, one for each of `n_rows` users: int64 [n_rows, E], 0-padded.

    Raises RequestError: another number of rows, or as `indices`.
    """
    if len(rows) != n_rows:
        raise RequestError(f"{n_rows} users, but {len(rows)} exclusions")
    return padded([indices("exclude_item_indices", row, 1, highest) for row in rows], np.int64)


def lists(name: str, value: Any, n_rows: int | None) -> list[Sequence[Any]]:
    """Check a list of `n_rows` lists or, for a single request (None), a list; returns a list of lists.

    Raises RequestError: not a list, or another number of them.
    """
    rows = [value] if n_rows is None else value
    if is_one(rows) or len(rows) != (1 if n_rows is None else n_rows):
        raise RequestError(f"{name} must hold one list for each of {n_rows} users, got {value!r:.80}")
    for row in rows:
        if is_one(row):
            raise RequestError(f"{name} must be a list for each user, got {row!r:.80}")
    return list(rows)


def ratings(values: Sequence[Any], low: float, high: float) -> np.ndarray:
    """Check ratings on the data's scale: float32 [n]. Raises RequestError: not numbers, or off the scale."""
    try:
        array = np.asarray(values, np.float64)
    except (TypeError, ValueError):
        raise RequestError(f"ratings must be numbers, got {values!r:.80}") from None
    if array.ndim != 1:
        raise RequestError(f"ratings must be one list of numbers, got {array.ndim} axes")
    # In this form, NaN is wrong too.
    wrong = ~((array >= low) & (array <= high))
    if wrong.any():
        raise RequestError(
            f"ratings must lie in {low:g} to {high:g}, the data's scale; got {array[wrong][0]:g}"
        )
    return array.astype(np.float32)


def padded(rows: Sequence[np.ndarray], dtype: type[np.generic]) -> np.ndarray:
    """Rows of any length: [B, longest], 0-padded, at least one column."""
    result = np.zeros((len(rows), max(1, *(len(row) for row in rows)) if rows else 1), dtype)
    for place, row in enumerate(rows):
        result[place, : len(row)] = row
    return result
