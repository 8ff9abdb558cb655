"""`fold_in.onnx`: a new user's ratings in, recommendations out, by ridge regression inside the graph.

A dot model is linear in the user, so with the items fixed the best user is a ridge solution. The ridge is
centred on the average user (row 0): the graph solves for the difference d from it,

    minimise  sum_i (logit(r_i) - average user's logit_i - d . q_i)^2  +  regularization |d|^2,

where q_i is the item's factors, with a 1 appended in a model with biases (the user's bias is one more
factor). Without ratings d = 0: the average user's recommendations. The normal equations are solved by a
fixed number of conjugate-gradient steps, which take nothing but matrix products.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir

from export.graphs.build import begin, finish, rank, table
from export.graphs.recommend import item_logits
from export.model.arrays import DotArrays

# A rating at the very end of the sigmoid's range has an infinite logit.
LOGIT_MARGIN = 0.01
# Keeps 0/0 at 0 once a residual has vanished; far below any residual that matters.
TINY = 1e-30


def fold_in_graph(arrays: DotArrays, top_k: int, regularization: float, steps: int) -> ir.Model:
    """The graph of design "fold_in". Rated items are left out of the list.

    Inputs: `item_indices` int64 [B, H], 0-padded; `ratings` float32 [B, H], ignored where padded.
    Outputs: `top_item_indices` int64 [B, K]; `top_scores` float32 [B, K] (ratings); `user_factors` float32
    [B, F]; with biases also `user_biases` float32 [B, 1].
    """
    graph = begin("fold_in")
    op = graph.op
    item_indices = graph.input("item_indices", ir.DataType.INT64, ["B", "H"])
    ratings = graph.input("ratings", ir.DataType.FLOAT, ["B", "H"])

    item_table = table(graph, "item_factors", arrays.item_factors)
    n_factors = arrays.item_factors.shape[1]
    rated = op.Unsqueeze(op.Cast(op.Greater(item_indices, 0), to=ir.DataType.FLOAT), [2])  # [B, H, 1]
    factors = op.Gather(item_table, item_indices)  # [B, H, F]
    average = arrays.user_factors[:1]  # [1, F]
    if arrays.item_biases is not None and arrays.user_biases is not None:
        factors = op.Concat(factors, rated, axis=2)  # [B, H, F + 1]
        average = np.concatenate([average, arrays.user_biases[:1]], axis=1)
    start = table(graph, "average_user", average)

    observed = op.Unsqueeze(_logit(op, ratings, arrays.y_range), [2])  # [B, H, 1]
    expected = op.MatMul(factors, op.Transpose(start, perm=[1, 0]))
    if arrays.item_biases is not None:
        biases = table(graph, "item_biases", arrays.item_biases)
        expected = op.Add(expected, op.Gather(biases, item_indices))
    # Where, not Mul: whatever stands in the padding (even NaN) must not reach the sums.
    residual = op.Where(op.Greater(rated, 0.5), op.Sub(observed, expected), 0.0)
    masked = op.Mul(factors, rated)
    difference = _ridge(op, masked, residual, regularization, steps)  # [B, 1, F (+ 1)]
    user = op.Add(op.Squeeze(difference, [1]), start)

    user_biases = None
    if arrays.user_biases is not None:
        user_biases = op.Slice(user, [n_factors], [n_factors + 1], [1])
        user = op.Slice(user, [0], [n_factors], [1])
    logits = item_logits(graph, arrays, user)
    indices, scores = rank(op, logits, item_indices, top_k, user_biases, arrays.y_range)
    outputs: list[tuple[str, ir.Value, ir.DataType, list[int | str]]] = [
        ("top_item_indices", indices, ir.DataType.INT64, ["B", top_k]),
        ("top_scores", scores, ir.DataType.FLOAT, ["B", top_k]),
        ("user_factors", user, ir.DataType.FLOAT, ["B", n_factors]),
    ]
    if user_biases is not None:
        outputs.append(("user_biases", user_biases, ir.DataType.FLOAT, ["B", 1]))
    return finish(graph, outputs)


def _logit(op: Any, ratings: ir.Value, y_range: tuple[float, float] | None) -> ir.Value:
    """The inverse of the sigmoid range, ratings near its ends pulled in; the ratings where there is none."""
    if y_range is None:
        return ratings
    low, high = y_range
    share = op.Clip(op.Div(op.Sub(ratings, low), high - low), LOGIT_MARGIN, 1 - LOGIT_MARGIN)
    logits: ir.Value = op.Log(op.Div(share, op.Sub(1.0, share)))
    return logits


def _ridge(op: Any, factors: ir.Value, target: ir.Value, regularization: float, steps: int) -> ir.Value:
    """(QᵀQ + regularization I)⁻¹ Qᵀ target by conjugate gradients (Hestenes and Stiefel, 1952).

    Args:
        op: the builder's operators.
        factors: Q, float32 [B, H, F].
        target: float32 [B, H, 1].
        regularization: added to the diagonal.
        steps: F steps are exact but for rounding; far fewer do, since eigenvalues cluster.

    Returns:
        float32 [B, 1, F].
    """
    transposed = op.Transpose(factors, perm=[0, 2, 1])  # [B, F, H]
    residual = op.MatMul(op.Transpose(target, perm=[0, 2, 1]), factors)  # [B, 1, F]
    solution: ir.Value = op.Mul(residual, 0.0)
    direction = residual
    square = op.ReduceSum(op.Mul(residual, residual), [2], keepdims=1)  # [B, 1, 1]
    for _ in range(steps):
        image = op.Add(
            op.MatMul(op.MatMul(direction, transposed), factors), op.Mul(direction, regularization)
        )
        curvature = op.ReduceSum(op.Mul(direction, image), [2], keepdims=1)
        step = op.Div(square, op.Add(curvature, TINY))
        solution = op.Add(solution, op.Mul(step, direction))
        residual = op.Sub(residual, op.Mul(step, image))
        next_square = op.ReduceSum(op.Mul(residual, residual), [2], keepdims=1)
        direction = op.Add(residual, op.Mul(op.Div(next_square, op.Add(square, TINY)), direction))
        square = next_square
    return solution
