"""The slow, obvious answers, in float64 numpy: what graphs are compared with, and golden vectors made of."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from export.graphs.build import MASKED
from export.graphs.fold_in import LOGIT_MARGIN
from export.model.arrays import Arrays, DotArrays, Float32

Float64 = npt.NDArray[np.float64]
Int64 = npt.NDArray[np.int64]


def to_range(logits: Float64, y_range: tuple[float, float] | None) -> Float64:
    """`low + (high - low) sigmoid(logits)`; the logits themselves where there is no range."""
    if y_range is None:
        return logits
    low, high = y_range
    return low + (high - low) / (1.0 + np.exp(-logits))


def scores(arrays: Arrays, user_index: Int64) -> Float64:
    """Scores of these users for every item: int64 [B] -> float64 [B, n_items + 1], in ratings."""
    if isinstance(arrays, DotArrays):
        users = arrays.user_factors[user_index].astype(np.float64)
        biases = None if arrays.user_biases is None else arrays.user_biases[user_index].astype(np.float64)
        return to_range(dot_logits(arrays, users, biases), arrays.y_range)
    items = arrays.item_hidden.astype(np.float64)
    rows = []
    for user in arrays.user_hidden[user_index].astype(np.float64):
        hidden = user + items  # [N, H]
        for weight, bias in arrays.layers:
            hidden = np.maximum(hidden, 0.0) @ weight.T.astype(np.float64) + bias
        rows.append(hidden[:, 0])
    return to_range(np.stack(rows), arrays.y_range)


def dot_logits(arrays: DotArrays, users: Float64, biases: Float64 | None) -> Float64:
    """float64 [B, F] and [B, 1] against every item: float64 [B, n_items + 1]."""
    logits: Float64 = users @ arrays.item_factors.T.astype(np.float64)
    if biases is not None and arrays.item_biases is not None:
        logits = logits + biases + arrays.item_biases.T
    return logits


def cosines(item_factors: Float32, item_index: Int64) -> Float64:
    """Cosines of items with every item: int64 [B] -> float64 [B, n_items + 1]; 0 with a row of zeros."""
    factors = item_factors.astype(np.float64)
    lengths = np.linalg.norm(factors, axis=1)
    lengths[lengths == 0] = 1.0
    result: Float64 = (factors[item_index] @ factors.T) / lengths[item_index, None] / lengths
    return result


def fold_in(
    arrays: DotArrays, item_indices: Int64, ratings: npt.NDArray[np.floating], regularization: float
) -> Float64:
    """One new user by `numpy.linalg.solve` of the ridge problem that export/graphs/fold_in.py states.

    Args:
        arrays: a dot model.
        item_indices: int64 [H], 0 is padding.
        ratings: float [H].
        regularization: weight of the squared distance from the average user.

    Returns:
        float64 [F]: the user's factors; [F + 1] in a model with biases, the user's bias last.
    """
    rated = item_indices > 0
    factors, target, _ = ridge_problem(arrays, item_indices[rated], np.asarray(ratings)[rated])
    average = arrays.user_factors[0].astype(np.float64)
    if arrays.user_biases is not None:
        average = np.append(average, arrays.user_biases[0, 0])
    gram = factors.T @ factors + regularization * np.eye(factors.shape[1])
    solution: Float64 = average + np.linalg.solve(gram, factors.T @ target)
    return solution


def ridge_problem(
    arrays: DotArrays, item_indices: Int64, ratings: npt.NDArray[np.floating]
) -> tuple[Float64, Float64, Float64]:
    """What a new user's difference d from the average user is fitted to: factors @ d should be the target.

    Args:
        arrays: a dot model.
        item_indices: int64 [H], from 1.
        ratings: float [H].

    Returns:
        factors float64 [H, F], or [H, F + 1] with a column of ones in a model with biases; target float64 [H]
        (logits above the average user's); and the average user's logits, float64 [H].
    """
    observed = np.asarray(ratings, np.float64)
    factors = arrays.item_factors[item_indices].astype(np.float64)
    average = arrays.user_factors[0].astype(np.float64)
    expected = np.zeros(len(factors))
    if arrays.user_biases is not None and arrays.item_biases is not None:
        factors = np.column_stack([factors, np.ones(len(factors))])
        average = np.append(average, arrays.user_biases[0, 0])
        expected += arrays.item_biases[item_indices, 0]
    if arrays.y_range is not None:
        low, high = arrays.y_range
        share = np.clip((observed - low) / (high - low), LOGIT_MARGIN, 1 - LOGIT_MARGIN)
        observed = np.log(share / (1 - share))
    expected += factors @ average
    return factors, observed - expected, expected


def top_k(scores: Float64, exclude: Int64, k: int) -> tuple[Int64, Float64]:
    """The k best columns of each row by a full stable sort, as the graphs rank them.

    Args:
        scores: float64 [B, N].
        exclude: int64 [B, E]; column 0 is left out in any case.
        k: how many.

    Returns:
        int64 [B, k] and float64 [B, k]; where fewer are left, index 0 and -1e30.
    """
    scores = scores.copy()
    np.put_along_axis(scores, exclude, -np.inf, axis=1)
    scores[:, 0] = -np.inf
    order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    best = np.take_along_axis(scores, order, axis=1)
    left = np.isfinite(best)
    return np.where(left, order, 0), np.where(left, best, MASKED)
