"""Scores and rankings in float64 numpy, for comparisons and conformance cases."""

from __future__ import annotations

import numpy as np

from export.model.arrays import Float32, Float64, Int64

# The score where no item is left. It is finite, because CUDA and WebGPU pad TopK with the lowest float, and
# -inf sorts below their padding.
MASKED = -1e30


def to_range(logits: Float64, y_range: tuple[float, float] | None) -> Float64:
    """`low + (high - low) sigmoid(logits)`; the logits themselves where there is no range."""
    if y_range is None:
        return logits
    low, high = y_range
    return low + (high - low) / (1.0 + np.exp(-logits))


def cosines(item_factors: Float32, item_index: Int64) -> Float64:
    """Cosines of items with every item: int64 [B] -> float64 [B, n_items + 1]; 0 with a row of zeros."""
    factors = item_factors.astype(np.float64)
    lengths = np.linalg.norm(factors, axis=1)
    lengths[lengths == 0] = 1.0
    result: Float64 = (factors[item_index] @ factors.T) / lengths[item_index, None] / lengths
    return result


def top_k(scores: Float64, exclude: Int64, k: int) -> tuple[Int64, Float64]:
    """The k best columns of each row by a full stable sort, as the graphs rank them.

    Scores float64 [B, N] without the columns in `exclude`, int64 [B, E], and without column 0 -> int64 [B, k]
    and float64 [B, k]; where fewer are left, index 0 and -1e30.
    """
    scores = scores.copy()
    np.put_along_axis(scores, exclude, -np.inf, axis=1)
    scores[:, 0] = -np.inf
    order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    best = np.take_along_axis(scores, order, axis=1)
    left = np.isfinite(best)
    return np.where(left, order, 0), np.where(left, best, MASKED)
