"""Models whose score is a product: `dot` and `dot-bias`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
from onnxscript import GraphBuilder

from export.model import ridge
from export.model.arrays import Float32, Float64, Int64
from export.model.nodes import table
from export.model.reference import to_range
from serve.bundle.manifest import FoldIn


@dataclass(frozen=True, eq=False)
class DotArrays:
    """score = user . item (+ user bias + item bias), through a sigmoid range where there is one.

    All arrays are float32; row 0 is "unknown".
    """

    user_factors: Float32
    """[n_users + 1, F]"""
    item_factors: Float32
    """[n_items + 1, F]"""
    user_biases: Float32 | None
    """[n_users + 1, 1]; None in a model without biases"""
    item_biases: Float32 | None
    """[n_items + 1, 1]; None in a model without biases"""
    y_range: tuple[float, float] | None
    """The sigmoid range (ratings); None where the score is the plain product."""

    can_fold_in = True

    @classmethod
    def of_state(cls, state: Mapping[str, Float32], y_range: tuple[float, float] | None) -> Self:
        """The arrays of a `dot` or `dot-bias` model from its state."""
        return cls(
            user_factors=state["user_factors"],
            item_factors=state["item_factors"],
            user_biases=state.get("user_biases"),
            item_biases=state.get("item_biases"),
            y_range=y_range,
        )

    @property
    def n_users(self) -> int:
        """Users, row 0 left out."""
        return len(self.user_factors) - 1

    @property
    def n_items(self) -> int:
        """Items, row 0 left out."""
        return len(self.item_factors) - 1

    def of_items(self, items: Int64) -> Self:
        """The model of these items alone, int64 [n], in place of all, row 0 included."""
        biases = None if self.item_biases is None else self.item_biases[items]
        return replace(self, item_factors=self.item_factors[items], item_biases=biases)

    def rows64(self, user_index: Int64) -> Float64:
        """The rows of users int64 [B]: float64 [B, F], or [B, F + 1] with the bias last."""
        rows = self.user_factors[user_index].astype(np.float64)
        return rows if self.user_biases is None else np.column_stack([rows, self.user_biases[user_index]])

    def scores64(self, user_index: Int64) -> Float64:
        """Scores of users int64 [B] for every item: float64 [B, n_items + 1]."""
        return self.row_scores64(self.rows64(user_index))

    def row_scores64(self, rows: Float64) -> Float64:
        """Scores of users' rows, float64 [B, row], for every item: float64 [B, n_items + 1]."""
        logits: Float64 = rows @ self._item_rows64(slice(None)).T
        if self.item_biases is not None:
            logits = logits + self.item_biases.T
        return to_range(logits, self.y_range)

    def _item_rows64(self, items: Int64 | slice) -> Float64:
        """What a user's row is multiplied by: float64 [n, F], or [n, F + 1] with a column of ones."""
        factors = self.item_factors[items].astype(np.float64)
        return factors if self.user_biases is None else np.column_stack([factors, np.ones(len(factors))])

    def logits(self, graph: GraphBuilder, user_index: ir.Value) -> tuple[ir.Value, ir.Value | None]:
        """ONNX nodes: users int64 [B] -> logits float32 [B, n_items + 1], and the user's bias, [B, 1]."""
        tables = {"user_factors": self.user_factors}
        if self.user_biases is not None:
            tables["user_biases"] = self.user_biases
        gathered = {
            name: graph.op.Gather(table(graph, name, array), user_index) for name, array in tables.items()
        }
        return self.row_logits(graph, gathered)

    def row_logits(self, graph: GraphBuilder, parts: dict[str, ir.Value]) -> tuple[ir.Value, ir.Value | None]:
        """ONNX nodes: users' factors [B, F] and biases [B, 1] -> as `logits`.

        One Gemm on the item table that Gather would read.
        """
        op = graph.op
        operands = [parts["user_factors"], table(graph, "item_factors", self.item_factors)]
        if self.item_biases is not None:
            operands.append(op.Reshape(table(graph, "item_biases", self.item_biases), [1, -1]))
        return op.Gemm(*operands, transB=1), parts.get("user_biases")

    @property
    def row_size(self) -> float:
        """Largest absolute entry of the users' rows, 1 where all are 0: errors of rows are shares of it."""
        biases = 0.0 if self.user_biases is None else np.abs(self.user_biases).max()
        return float(max(np.abs(self.user_factors).max(), biases)) or 1.0

    def row_parts(self) -> dict[str, slice]:
        """The names of the graph's outputs for a row, and their columns."""
        n_factors = self.item_factors.shape[1]
        parts = {"user_factors": slice(0, n_factors)}
        return parts if self.user_biases is None else parts | {"user_biases": slice(n_factors, n_factors + 1)}

    def ridge_problem(
        self, item_indices: Int64, ratings: npt.NDArray[np.floating]
    ) -> tuple[Float64, Float64, Float64]:
        """What a new user's difference d from the average user is fitted to: factors @ d = target.

        Args:
            item_indices: int64 [H], from 1.
            ratings: float [H].

        Returns:
            factors float64 [H, row]; target float64 [H] (logits above the average user's); and the average
            user's logits, float64 [H].
        """
        factors = self._item_rows64(item_indices)
        expected = factors @ self.rows64(np.array([0]))[0]
        if self.item_biases is not None:
            expected = expected + self.item_biases[item_indices, 0]
        observed = ridge.logit64(np.asarray(ratings, np.float64), self.y_range)
        return factors, observed - expected, expected

    def fold_in64(
        self, item_indices: Int64, ratings: npt.NDArray[np.floating], regularization: float
    ) -> Float64:
        """The row of a new user by `numpy.linalg.solve` of the problem that `export.model.ridge` states.

        Args:
            item_indices: int64 [H], 0 is padding.
            ratings: float [H].
            regularization: weight of the squared distance from the average user.

        Returns:
            float64 [F]: the user's factors; [F + 1] in a model with biases, the user's bias last.
        """
        rated = item_indices > 0
        factors, target, _ = self.ridge_problem(item_indices[rated], np.asarray(ratings)[rated])
        gram = factors.T @ factors + regularization * np.eye(factors.shape[1])
        row: Float64 = self.rows64(np.array([0]))[0] + np.linalg.solve(gram, factors.T @ target)
        return row

    def fold_in(
        self, graph: GraphBuilder, item_indices: ir.Value, ratings: ir.Value, settings: FoldIn
    ) -> dict[str, ir.Value]:
        """ONNX nodes: items int64 [B, H], 0-padded, and ratings float32 [B, H] -> factors, and bias if any.

        Whatever stands in the padding's ratings (even NaN) changes nothing.
        """
        op = graph.op
        rated = op.Unsqueeze(op.Cast(op.Greater(item_indices, 0), to=ir.DataType.FLOAT), [2])  # [B, H, 1]
        factors = op.Gather(table(graph, "item_factors", self.item_factors), item_indices)  # [B, H, F]
        if self.user_biases is not None:
            factors = op.Concat(factors, rated, axis=2)  # [B, H, F + 1]
        average = table(graph, "average_user", self.rows64(np.array([0])).astype(np.float32))
        observed = op.Unsqueeze(ridge.logit(op, ratings, self.y_range), [2])  # [B, H, 1]
        expected = op.MatMul(factors, op.Transpose(average, perm=[1, 0]))
        if self.item_biases is not None:
            biases = table(graph, "item_biases", self.item_biases)
            expected = op.Add(expected, op.Gather(biases, item_indices))
        # Where, not Mul: a NaN times 0 is a NaN.
        target = op.Where(op.Greater(rated, 0.5), op.Sub(observed, expected), 0.0)
        scaling = ridge.preconditioner(
            self._item_rows64(slice(1, 1 + settings.n_items)), settings.regularization
        )
        masked = op.Mul(factors, rated)
        difference = ridge.solve(graph, masked, target, scaling, settings.regularization, settings.steps)
        row = op.Add(op.Squeeze(difference, [1]), average)
        parts = self.row_parts()
        if len(parts) == 1:
            return dict.fromkeys(parts, row)
        return {name: op.Slice(row, [part.start], [part.stop], [1]) for name, part in parts.items()}
