"""Top-k lists against the scores they were made from: by value at each rank, ids free within ties."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from export.graphs.spec import Comparison
from export.model import reference
from export.model.arrays import Float64, Int64
from export.model.reference import MASKED


def compare_lists(
    truth: Float64, exclude: Int64, indices: Int64, scores: npt.NDArray[np.float32], tolerance: float
) -> tuple[Float64, float]:
    """Compare top-k lists with the scores they were made from, ids free within ties.

    Args:
        truth: float64 [B, N], every item's true score.
        exclude: int64 [B, E], what must not be listed.
        indices: int64 [B, K], the lists.
        scores: float32 [B, K].
        tolerance: how far two scores may differ and count as one.

    Returns:
        Errors float64 [B * K]: at each rank the larger one of |score - true score of that item| and |true
        score of that item - true score at that rank|; infinite where an item is listed twice, excluded, or
        missing from the list. And the share of ranks whose error is within the tolerance.
    """
    k = indices.shape[1]
    _, wanted = reference.top_k(truth, exclude, k)
    tail = wanted <= MASKED / 10
    of_item = np.where(tail, MASKED, np.take_along_axis(truth, indices, axis=1))
    errors = np.maximum(np.abs(scores - of_item), np.abs(of_item - wanted))
    forbidden = (indices[:, :, None] == exclude[:, None, :]).any(axis=2) | (indices == 0)
    ordered = np.sort(np.where(tail, -np.arange(1, k + 1), indices), axis=1)
    twice = (np.diff(ordered, axis=1) == 0).any(axis=1, keepdims=True)
    wrong = (forbidden != tail) | (tail & (indices != 0)) | twice
    # -1e30 is no float32, so a correct tail would have a rounding error.
    errors[tail & (indices == 0) & (scores <= MASKED / 10)] = 0.0
    errors[wrong] = np.inf
    return errors.ravel(), float(np.mean(errors <= tolerance))


def check_lists(
    truth: Float64, exclude: Int64, found: Mapping[str, npt.NDArray[Any]], top_k: int, tolerance: float
) -> Comparison:
    """`compare_lists` of a graph's answer: `top_item_indices` and `top_scores`, which must be [B, top_k]."""
    indices, scores = found["top_item_indices"], found["top_scores"]
    if indices.shape != (len(truth), top_k):
        return Comparison(len(truth), np.array([np.inf]), tolerance, 0.0)
    errors, agreement = compare_lists(truth, exclude, indices, scores, tolerance)
    return Comparison(len(truth), errors, tolerance, agreement)
