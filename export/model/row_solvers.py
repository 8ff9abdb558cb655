"""How a new user's row of a ranking part comes from a few ratings: one class for each closed form."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
from onnxscript import GraphBuilder
from recsys.models.ials import MIN_WEIGHT, weights_of

from export.model import ridge
from export.model.arrays import Float32, Float64, Int64, table


class RowSolver(Protocol):
    """A new user's row of one part, in float64 and as ONNX nodes."""

    method: str
    """Its name in the manifest."""

    def row64(self, item_indices: Int64, ratings: npt.NDArray[np.floating]) -> Float64:
        """Items int64 [H], 0-padded, and ratings float [H] -> float64 [F]."""

    def row(
        self, graph: GraphBuilder, item_indices: ir.Value, ratings: ir.Value, n_items: int, steps: int
    ) -> ir.Value:
        """ONNX nodes: items int64 [B, H], 0-padded, and ratings float32 [B, H] -> float32 [B, F].

        Args:
            graph: where the nodes go.
            item_indices: rated items.
            ratings: their ratings; those of padding, even NaN, change nothing.
            n_items: the preconditioner is made from the first so many items.
            steps: of conjugate gradients, where there are any.
        """


@dataclass(frozen=True, eq=False)
class InputRows:
    """The sum of the input rows of the rated items, whatever their ratings: `ease`."""

    input_factors: Float32
    """[n_items + 1, F]; row 0 is 0"""

    method = "sum of input rows"

    def row64(self, item_indices: Int64, ratings: npt.NDArray[np.floating]) -> Float64:
        """See RowSolver."""
        rows: Float64 = self.input_factors[item_indices].astype(np.float64).sum(axis=0)
        return rows

    def row(
        self, graph: GraphBuilder, item_indices: ir.Value, ratings: ir.Value, n_items: int, steps: int
    ) -> ir.Value:
        """See RowSolver."""
        rows = graph.op.Gather(table(graph, "input_factors", self.input_factors), item_indices)  # [B, H, F]
        total: ir.Value = graph.op.ReduceSum(rows, [1], keepdims=0)
        return total


@dataclass(frozen=True, eq=False)
class ImplicitRidge:
    """The user's half-step of implicit ALS on whitened items: `ials`.

    The row x minimises  sum_i w_i (1 - x . q_i)^2 + |x|^2  over the rated items, whose weights w rise with
    their ratings (`recsys.models.ials`).
    """

    item_factors: Float32
    """[n_items + 1, F], whitened"""
    confidence: Float32
    """[2]: mean rating, and increase of a weight per unit of rating"""

    method = "ridge"

    def row64(self, item_indices: Int64, ratings: npt.NDArray[np.floating]) -> Float64:
        """See RowSolver: `numpy.linalg.solve` of the normal equations."""
        rated = item_indices > 0
        factors = self.item_factors[item_indices[rated]].astype(np.float64)
        weights = weights_of(np.asarray(ratings)[rated], self.confidence).astype(np.float64)
        weighted = factors * weights[:, None]
        system = factors.T @ weighted + np.eye(factors.shape[1])
        return np.linalg.solve(system, weighted.sum(axis=0))

    def row(
        self, graph: GraphBuilder, item_indices: ir.Value, ratings: ir.Value, n_items: int, steps: int
    ) -> ir.Value:
        """See RowSolver. The roots of the weights multiply both sides of the least-squares problem."""
        op = graph.op
        mean, slope = (float(value) for value in self.confidence)
        weights = op.Add(op.Mul(op.Sub(ratings, mean), slope), 1.0)
        # Where, not Mul: a NaN times 0 is a NaN.
        weights = op.Where(op.Greater(item_indices, 0), op.Max(weights, MIN_WEIGHT), 0.0)
        roots = op.Unsqueeze(op.Sqrt(weights), [2])  # [B, H, 1], 0 where padded
        factors = op.Gather(table(graph, "ranking_ials_factors", self.item_factors), item_indices)
        items = self.item_factors[1 : 1 + n_items].astype(np.float64)
        penalty = np.ones(items.shape[1])
        found = ridge.solve(graph, op.Mul(factors, roots), roots, items, penalty, steps, name="ials")
        row: ir.Value = op.Squeeze(found, [1])
        return row


def solver_of(state: Mapping[str, Float32]) -> RowSolver | None:
    """The closed form of a ranking part with this state; None: it has none."""
    if "input_factors" in state:
        return InputRows(state["input_factors"])
    if "confidence" in state:
        return ImplicitRidge(state["item_factors"], state["confidence"])
    return None
