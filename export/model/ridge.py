"""The ridge regression that places a new user, as ONNX nodes.

With the items fixed, a dot model is linear in the user. The ridge is centred on the average user (row 0): it
gives the difference d from that row,

    minimise  sum_i (logit(r_i) - average user's logit_i - d . q_i)^2  +  sum_j w_j d_j^2,

where q_i is the item's factors, with a 1 appended in a model with biases (the user's bias is one more
factor), and w are the ridge's weights. Without ratings d = 0: the average user. The normal equations are
solved by a fixed number of conjugate-gradient steps, which take only matrix products. So that few steps are
exact for any table, the unknown is e with d = M e, where M = (20 G + diag(w))^(-1/2) and G is the mean of
q_i q_i^T over the items: with a history of about 20 items the system is near the identity.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
from onnxscript import GraphBuilder

from export.model.arrays import Float32, Float64, row_slices, table

# A rating at the very end of the sigmoid's range has an infinite logit.
LOGIT_MARGIN = 0.01
# Keeps 0/0 at 0 once a residual has vanished; far below any residual that matters.
TINY = 1e-30
# The length of history that the preconditioner is made for.
TYPICAL_HISTORY = 20


def moment(item_factors: Float32, *, ones: bool = False) -> Float64:
    """G: the mean outer product of rows, float32 [n, F] -> float64 [F, F]. `ones` appends a 1 to each row."""
    mean: Float64 = gram(item_factors, ones=ones) / len(item_factors)
    return mean


def gram(item_factors: Float32, *, ones: bool = False) -> Float64:
    """The sum of the same outer products."""
    total: Float64 | float = 0.0
    for part in row_slices(len(item_factors)):
        rows = item_factors[part].astype(np.float64)
        if ones:
            rows = np.column_stack([rows, np.ones(len(rows))])
        total = total + rows.T @ rows
    return np.asarray(total)


def solve(
    graph: GraphBuilder,
    factors: ir.Value,
    target: ir.Value,
    moment: Float64,
    ridge: Float64,
    steps: int,
    name: str = "fold_in",
) -> ir.Value:
    """Solve for d of the module's docstring by conjugate gradients (Hestenes and Stiefel, 1952).

    Args:
        graph: where the nodes go.
        factors: q of the rated items, float32 [B, H, F], rows of zeros where padded.
        target: float32 [B, H, 1], 0 where padded.
        moment: G of the items that the preconditioner is made from, float64 [F, F].
        ridge: w, float64 [F].
        steps: F steps are exact but for rounding.
        name: begins the names of the graph's tables.

    Returns:
        float32 [B, 1, F].
    """
    op: Any = graph.op
    rotation, penalty = _preconditioned(graph, moment, ridge, name)
    rotated = op.MatMul(factors, rotation)  # [B, H, F]
    transposed = op.Transpose(rotated, perm=[0, 2, 1])  # [B, F, H]
    residual = op.MatMul(op.Transpose(target, perm=[0, 2, 1]), rotated)  # [B, 1, F]
    solution = _conjugate_gradients(op, residual, rotated, transposed, penalty, steps)
    difference: ir.Value = op.MatMul(solution, rotation)
    return difference


def shares(
    graph: GraphBuilder,
    factors: ir.Value,
    target: ir.Value,
    directions: ir.Value,
    moment: Float64,
    ridge: Float64,
    steps: int,
    name: str = "fold_in",
) -> ir.Value:
    """What each rating adds to the products of d with some directions v: (A^-1 v) . q_h times its target.

    A = sum_i q_i q_i^T + diag(w) is the matrix of the normal equations. The products v . d are the sums of
    these shares, because d is linear in the targets.

    Args:
        graph: see `solve`, as for the other arguments.
        factors: float32 [B, H, F].
        target: float32 [B, H, 1].
        directions: v, float32 [B, E, F].
        moment: float64 [F, F].
        ridge: float64 [F].
        steps: of conjugate gradients, for each direction.
        name: begins the names of the graph's tables.

    Returns:
        float32 [B, E, H], 0 where padded.
    """
    op: Any = graph.op
    rotation, penalty = _preconditioned(graph, moment, ridge, name)
    rotated = op.MatMul(factors, rotation)  # [B, H, F]
    transposed = op.Transpose(rotated, perm=[0, 2, 1])  # [B, F, H]
    residual = op.MatMul(directions, rotation)  # [B, E, F]
    solution = _conjugate_gradients(op, residual, rotated, transposed, penalty, steps)
    found: ir.Value = op.Mul(op.MatMul(solution, transposed), op.Transpose(target, perm=[0, 2, 1]))
    return found


def shares64(factors: Float64, target: Float64, directions: Float64, ridge: Float64) -> Float64:
    """`shares` of one user in float64: [H, F], [H], [E, F] and [F] -> [E, H]."""
    system = factors.T @ factors + np.diag(ridge)
    found: Float64 = np.linalg.solve(system, directions.T).T @ factors.T * target
    return found


def _preconditioned(
    graph: GraphBuilder, moment: Float64, ridge: Float64, name: str
) -> tuple[ir.Value, ir.Value]:
    """M and M diag(w) M of the module's docstring, as tables of the graph: [F, F] both."""
    values, vectors = np.linalg.eigh(TYPICAL_HISTORY * moment + np.diag(ridge))
    preconditioner = (vectors / np.sqrt(np.maximum(values, ridge.min()))) @ vectors.T
    rotation = table(graph, f"{name}_preconditioner", preconditioner.astype(np.float32))
    weights = (preconditioner * ridge) @ preconditioner
    return rotation, table(graph, f"{name}_ridge", weights.astype(np.float32))


def _conjugate_gradients(
    op: Any, residual: ir.Value, rotated: ir.Value, transposed: ir.Value, penalty: ir.Value, steps: int
) -> ir.Value:
    """The e with M A M e = each row of `residual`, float32 [B, E, F]; each row is a system of its own."""
    solution: ir.Value = op.Mul(residual, 0.0)
    direction = residual
    square = op.ReduceSum(op.Mul(residual, residual), [2], keepdims=1)  # [B, 1, 1]
    for _ in range(steps):
        image = op.Add(op.MatMul(op.MatMul(direction, transposed), rotated), op.MatMul(direction, penalty))
        curvature = op.ReduceSum(op.Mul(direction, image), [2], keepdims=1)
        step = op.Div(square, op.Add(curvature, TINY))
        solution = op.Add(solution, op.Mul(step, direction))
        residual = op.Sub(residual, op.Mul(step, image))
        next_square = op.ReduceSum(op.Mul(residual, residual), [2], keepdims=1)
        direction = op.Add(residual, op.Mul(op.Div(next_square, op.Add(square, TINY)), direction))
        square = next_square
    return solution


def logit64(ratings: Float64, y_range: tuple[float, float] | None) -> Float64:
    """The inverse of the sigmoid range, ratings near its ends pulled in; the ratings where there is none."""
    if y_range is None:
        return ratings
    low, high = y_range
    share = np.clip((ratings - low) / (high - low), LOGIT_MARGIN, 1 - LOGIT_MARGIN)
    logits: Float64 = np.log(share / (1 - share))
    return logits


def logit(op: Any, ratings: ir.Value, y_range: tuple[float, float] | None) -> ir.Value:
    """`logit64` as ONNX nodes."""
    if y_range is None:
        return ratings
    low, high = y_range
    share = op.Clip(op.Div(op.Sub(ratings, low), high - low), LOGIT_MARGIN, 1 - LOGIT_MARGIN)
    logits: ir.Value = op.Log(op.Div(share, op.Sub(1.0, share)))
    return logits
