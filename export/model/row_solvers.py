"""How a new user's row of a ranking part comes from a few ratings: one class for each closed form."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, Self

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
from onnxscript import GraphBuilder

from export.model import ridge
from export.model.arrays import Float32, Float64, Int64, row_slices, table
from recsys.models.ials import MIN_WEIGHT, weights_of
from serve.bundle.manifest import ListRidge


class RowSolver(Protocol):
    """A new user's row of one part, in float64 and as ONNX nodes."""

    @property
    def method(self) -> str:
        """Its name in the manifest."""

    @property
    def table_name(self) -> str:
        """The name of its table of items in a graph."""

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

    @property
    def offset64(self) -> Float64 | float:
        """What every new user's row has, whatever the ratings: float64 [F], or 0."""

    def shares64(
        self, item_indices: Int64, ratings: npt.NDArray[np.floating], directions: Float64
    ) -> Float64:
        """What each rating adds to the products of the row, less the offset, with directions.

        Items int64 [H], 0-padded, ratings float [H] and directions float64 [E, F] -> float64 [E, H], 0 where
        padded.
        """

    def shares(
        self,
        graph: GraphBuilder,
        item_indices: ir.Value,
        ratings: ir.Value,
        directions: ir.Value,
        n_items: int,
        steps: int,
    ) -> ir.Value:
        """`shares64` as ONNX nodes, arguments as of `row`: directions [B, E, F] -> float32 [B, E, H]."""


@dataclass(frozen=True, eq=False)
class InputRows:
    """The sum of the input rows of the rated items, whatever their ratings: `ease`."""

    input_factors: Float32
    """[n_items + 1, F]; row 0 is 0"""

    method = "sum of input rows"
    table_name = "input_factors"

    def row64(self, item_indices: Int64, ratings: npt.NDArray[np.floating]) -> Float64:
        """See RowSolver."""
        rows: Float64 = self.input_factors[item_indices].astype(np.float64).sum(axis=0)
        return rows

    def row(
        self, graph: GraphBuilder, item_indices: ir.Value, ratings: ir.Value, n_items: int, steps: int
    ) -> ir.Value:
        """See RowSolver."""
        total: ir.Value = graph.op.ReduceSum(self._rows(graph, item_indices), [1], keepdims=0)
        return total

    offset64 = 0.0

    def shares64(
        self, item_indices: Int64, ratings: npt.NDArray[np.floating], directions: Float64
    ) -> Float64:
        """See RowSolver."""
        products: Float64 = directions @ self.input_factors[item_indices].astype(np.float64).T
        return products

    def shares(
        self,
        graph: GraphBuilder,
        item_indices: ir.Value,
        ratings: ir.Value,
        directions: ir.Value,
        n_items: int,
        steps: int,
    ) -> ir.Value:
        """See RowSolver."""
        op = graph.op
        products: ir.Value = op.MatMul(
            directions, op.Transpose(self._rows(graph, item_indices), perm=[0, 2, 1])
        )
        return products

    def _rows(self, graph: GraphBuilder, item_indices: ir.Value) -> ir.Value:
        """float32 [B, H, F]"""
        rows: ir.Value = graph.op.Gather(table(graph, self.table_name, self.input_factors), item_indices)
        return rows


@dataclass(frozen=True, eq=False)
class ImplicitRidge:
    """The user's half-step of implicit ALS on whitened items: `ials`, and other products that rank.

    The row x minimises  sum_i w_i (1 - x . q_i)^2 + |x|^2  over the rated items, whose weights w rise with
    their ratings (`recsys.models.ials`). Where the part's tables are not whitened, the row is x B + c.
    """

    item_factors: Float32
    """[n_items + 1, F], whitened"""
    confidence: Float32
    """[2]: mean rating, and increase of a weight per unit of rating"""
    back: tuple[Float32, Float32] | None = None
    """B [F, F] and c [F]; None: the tables are whitened"""
    scale: float = 1.0
    """Of B: B / scale is L^-1 of `whitening`"""
    name: str = "ials"
    """Begins the names of the graph's tables"""

    @property
    def method(self) -> str:
        """See RowSolver."""
        return "ridge" if self.back is None else "ridge (approximation)"

    @property
    def table_name(self) -> str:
        """See RowSolver."""
        return f"ranking_{self.name}_factors"

    @classmethod
    def whitening(cls, item_factors: Float32, average: Float64, settings: ListRidge, name: str) -> Self:
        """The half-step for a product whose tables are not whitened.

        With C = a V'V + r I = L L' and q = L^-1 v, the x of q stands for the row x L^-1 of v.

        Args:
            item_factors: V, [n_items + 1, F].
            average: the average user's row, [F].
            settings: a, and r relative to the mean squared length of the items' rows.
            name: see the field.
        """
        n_items = len(item_factors) - 1
        gram = ridge.gram(item_factors[1:])
        length = np.trace(gram) / n_items
        gram = settings.unobserved_weight * gram + settings.regularization * length * np.eye(len(gram))
        inverse = np.linalg.inv(np.linalg.cholesky(gram))  # L^-1
        whitened = np.empty(item_factors.shape, np.float32)
        for part in row_slices(len(whitened)):
            whitened[part] = item_factors[part].astype(np.float64) @ inverse.T
        confidence = np.array([0, 0], np.float32)  # the value of a rating does not matter
        back = (settings.scale * inverse).astype(np.float32)
        offset = (settings.average_share * average).astype(np.float32)
        return cls(whitened, confidence, (back, offset), settings.scale, name)

    def whitened(self, rows: Float64) -> Float64:
        """Rows of items of the part's tables, [n, F], as rows of `item_factors`."""
        if self.back is None:
            return rows
        whitened: Float64 = rows @ self.back[0].T.astype(np.float64) / self.scale
        return whitened

    def row64(self, item_indices: Int64, ratings: npt.NDArray[np.floating]) -> Float64:
        """See RowSolver: `numpy.linalg.solve` of the normal equations."""
        factors, weights = self.problem64(item_indices, ratings)
        weighted = factors * weights[:, None]
        system = factors.T @ weighted + np.eye(factors.shape[1])
        row: Float64 = np.linalg.solve(system, weighted.sum(axis=0))
        if self.back is None:
            return row
        back, offset = (part.astype(np.float64) for part in self.back)
        return row @ back + offset

    def row(
        self, graph: GraphBuilder, item_indices: ir.Value, ratings: ir.Value, n_items: int, steps: int
    ) -> ir.Value:
        """See RowSolver. The roots of the weights multiply both sides of the least-squares problem."""
        op = graph.op
        scaled, roots = self._problem(graph, item_indices, ratings)
        moment = ridge.moment(self.item_factors[1 : 1 + n_items])
        penalty = np.ones(len(moment))
        found = ridge.solve(graph, scaled, roots, moment, penalty, steps, name=self.name)
        row: ir.Value = op.Squeeze(found, [1])
        if self.back is not None:
            back, offset = self.back
            row = op.MatMul(row, table(graph, f"{self.name}_back", back))
            row = op.Add(row, table(graph, f"{self.name}_offset", offset[None]))
        return row

    @property
    def offset64(self) -> Float64 | float:
        """See RowSolver."""
        return 0.0 if self.back is None else self.back[1].astype(np.float64)

    def shares64(
        self, item_indices: Int64, ratings: npt.NDArray[np.floating], directions: Float64
    ) -> Float64:
        """See RowSolver."""
        if self.back is not None:
            directions = directions @ self.back[0].T.astype(np.float64)
        rated = item_indices > 0
        factors, weights = self.problem64(item_indices, ratings)
        roots = np.sqrt(weights)
        penalty = np.ones(factors.shape[1])
        found = np.zeros((len(directions), len(item_indices)))
        found[:, rated] = ridge.shares64(factors * roots[:, None], roots, directions, penalty)
        return found

    def shares(
        self,
        graph: GraphBuilder,
        item_indices: ir.Value,
        ratings: ir.Value,
        directions: ir.Value,
        n_items: int,
        steps: int,
    ) -> ir.Value:
        """See RowSolver."""
        op = graph.op
        if self.back is not None:
            back = table(graph, f"{self.name}_back", self.back[0])
            directions = op.MatMul(directions, op.Transpose(back, perm=[1, 0]))
        scaled, roots = self._problem(graph, item_indices, ratings)
        moment = ridge.moment(self.item_factors[1 : 1 + n_items])
        penalty = np.ones(len(moment))
        return ridge.shares(graph, scaled, roots, directions, moment, penalty, steps, name=self.name)

    def problem64(self, item_indices: Int64, ratings: npt.NDArray[np.floating]) -> tuple[Float64, Float64]:
        """The rated items' rows, [n, F], and their weights, [n]."""
        rated = item_indices > 0
        weights = weights_of(np.asarray(ratings)[rated], self.confidence)
        return self.item_factors[item_indices[rated]].astype(np.float64), weights.astype(np.float64)

    def _problem(
        self, graph: GraphBuilder, item_indices: ir.Value, ratings: ir.Value
    ) -> tuple[ir.Value, ir.Value]:
        """Nodes: rows times the roots of their weights, [B, H, F], and the roots, [B, H, 1]; 0 if padded."""
        op = graph.op
        mean, slope = (float(value) for value in self.confidence)
        weights = op.Add(op.Mul(op.Sub(ratings, mean), slope), 1.0)
        # Where, not Mul: a NaN times 0 is a NaN.
        weights = op.Where(op.Greater(item_indices, 0), op.Max(weights, MIN_WEIGHT), 0.0)
        roots = op.Unsqueeze(op.Sqrt(weights), [2])  # [B, H, 1], 0 where padded
        factors = op.Gather(table(graph, self.table_name, self.item_factors), item_indices)
        return op.Mul(factors, roots), roots


def solver_of(state: Mapping[str, Float32]) -> RowSolver | None:
    """The closed form of a ranking part with this state; None: it has none."""
    if "input_factors" in state:
        return InputRows(state["input_factors"])
    if "confidence" in state:
        return ImplicitRidge(state["item_factors"], state["confidence"])
    return None
