"""How alike two items are: a cosine, shrunk by the neighbour's ratings.

With P S Q' the singular value decomposition of the scores of all users for all items, centred by item, the
cosines are those of the rows of Q S^(1/2). Those of Q S would be the correlations of scores, in which what
most items have in common drowns the rest. The rows follow from the tables, however a model scales or rotates
them. The row of an item that hardly anyone has rated is mostly chance, so the cosine to such a neighbour is
multiplied by n / (n + shrinkage), n its ratings in training.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from export.model.arrays import Arrays, Float32, Float64, Int64, row_slices
from export.model.dot import DotArrays
from export.model.side_by_side import SideBySide

MIN_RATINGS = 3
"""An item with fewer ratings is no neighbour: the cosine to it counts as 0."""

SMALLEST = 1e-12
"""Relative size of the eigenvalues that are left out. A cosine changes by its root at most."""


def similar_rows(arrays: Arrays) -> Float32:
    """Rows of which the cosines are those of Q S^(1/2): float32 [n_items + 1, F].

    A network has no product of tables: its item embeddings stand for these rows.
    """
    items = arrays.item_factors
    dot = arrays.dot if isinstance(arrays, SideBySide) else arrays
    if not isinstance(dot, DotArrays):
        return items
    users = dot.user_factors[1:, : items.shape[1]]
    n_items, n_users = len(items), len(users)
    # The columns of parts side by side may differ in size by many orders, which their products do not show.
    # Powers of two change no digit.
    squares = sum(np.square(items[part], dtype=np.float64).sum(axis=0) for part in row_slices(n_items))
    sizes = np.sqrt(squares / n_items)
    sizes = np.exp2(np.round(np.log2(np.where(sizes > 0, sizes, 1.0))))
    mean = sum(users[part].astype(np.float64).sum(axis=0) for part in row_slices(n_users)) / n_users
    root = _power(_gram((users[part] - mean) * sizes for part in row_slices(n_users)), 0.5)

    def scaled(part: slice) -> Float64:
        """Q S, rotated. It is made twice, not kept."""
        product: Float64 = (items[part] / sizes) @ root
        return product

    turn = _power(_gram(map(scaled, row_slices(n_items))), -0.25)
    rows = np.empty(items.shape, np.float32)
    for part in row_slices(n_items):
        rows[part] = scaled(part) @ turn
    return rows


def _gram(parts: Iterable[Float64]) -> Float64:
    """R'R of a table R that comes in parts, [n, F] each."""
    total: Float64 = np.asarray(sum(part.T @ part for part in parts))
    return total


def _power(matrix: Float64, exponent: float) -> Float64:
    """A power of a symmetric matrix [F, F] of eigenvalues from 0 on; the smallest ones become 0."""
    values, vectors = np.linalg.eigh(matrix)
    kept = values > values.max(initial=0.0) * SMALLEST
    powers = np.where(kept, np.where(kept, values, 1.0) ** exponent, 0.0)
    power: Float64 = (vectors * powers) @ vectors.T
    return power


def directions(rows: Float32) -> Float32:
    """Rows scaled to length 1, float32 [n, F]; a row of zeros stays zeros (cosine 0 to all)."""
    unit = np.empty(rows.shape, np.float32)
    for part in row_slices(len(rows)):
        lengths = np.linalg.norm(rows[part].astype(np.float64), axis=1, keepdims=True)
        unit[part] = rows[part] / np.where(lengths > 0, lengths, 1.0)
    return unit


def support(n_item_ratings: Int64, shrinkage: float) -> Float32:
    """What the cosines to an item are multiplied by: int64 [n_items + 1] -> float32 [n_items + 1]."""
    n = n_item_ratings.astype(np.float64)
    return np.where(n >= MIN_RATINGS, n / (n + shrinkage), 0.0).astype(np.float32)
