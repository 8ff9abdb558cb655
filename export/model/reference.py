"""Scores and rankings in float64 numpy, for comparisons and conformance cases."""

from __future__ import annotations

import numpy as np

from export.model.arrays import Float32, Float64, Int64, row_slices

# The score where no item is left. It is finite, because CUDA and WebGPU pad TopK with the lowest float, and
# -inf sorts below their padding.
MASKED = -1e30


def cosines(item_factors: Float32, item_index: Int64) -> Float64:
    """Cosines of items with every item: int64 [B] -> float64 [B, n_items + 1]; 0 with a row of zeros."""
    asked = item_factors[item_index].astype(np.float64)
    result = np.empty((len(asked), len(item_factors)))
    for part in row_slices(len(item_factors)):
        factors = item_factors[part].astype(np.float64)
        result[:, part] = (asked @ factors.T) / _lengths(asked)[:, None] / _lengths(factors)
    return result


def products(rows: Float32, item_index: Int64) -> Float64:
    """Products of rows [n_items + 1, F] with every row: int64 [B] -> float64 [B, n_items + 1]."""
    asked = rows[item_index].astype(np.float64)
    result = np.empty((len(asked), len(rows)))
    for part in row_slices(len(rows)):
        result[:, part] = asked @ rows[part].astype(np.float64).T
    return result


def _lengths(rows: Float64) -> Float64:
    lengths = np.linalg.norm(rows, axis=1)
    return np.where(lengths > 0, lengths, 1.0)


def top_k(scores: Float64, exclude: Int64, k: int) -> tuple[Int64, Float64]:
    """The k best columns of each row by a stable sort, as the graphs rank them.

    Scores float64 [B, N] without the columns in `exclude`, int64 [B, E], and without column 0 -> int64 [B, k]
    and float64 [B, k]; where fewer are left, index 0 and -1e30.
    """
    n = scores.shape[1]
    k = min(k, n)
    order, best = np.empty((len(scores), k), np.int64), np.empty((len(scores), k))
    for row, excluded in enumerate(exclude):
        values = np.where(np.isnan(scores[row]), -np.inf, scores[row])
        values[excluded] = -np.inf
        values[0] = -np.inf
        # All that may be among the best: most of a large catalogue need not be sorted.
        candidates = np.flatnonzero(values >= np.partition(values, n - k)[n - k])
        order[row] = candidates[np.argsort(-values[candidates], kind="stable")[:k]]
        best[row] = values[order[row]]
    left = np.isfinite(best)
    return np.where(left, order, 0), np.where(left, best, MASKED)
