"""Models whose score is a product: `dot` and `dot-bias`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Self

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
from onnxscript import GraphBuilder

from export.model import arrays, ridge
from export.model.arrays import Float32, Float64, Int64, row_slices, table
from export.model.reference import MASKED
from export.model.score_range import to_range
from serve.bundle.manifest import FoldIn

AVERAGE = np.array([0])


@dataclass(frozen=True, eq=False)
class DotArrays:
    """score = user . item (+ user bias + item bias), through the range of a sigmoid where there is one.

    All arrays are float32; row 0 is "unknown". The methods are those of `FoldInArrays`.
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
    prefix: str = ""
    """Of the names of its tables in a graph."""

    can_fold_in = True

    @classmethod
    def of_state(cls, state: Mapping[str, Float32], y_range: tuple[float, float] | None) -> Self:
        """From the state of a `dot` or `dot-bias` model."""
        biases = state.get("user_biases"), state.get("item_biases")
        return cls(state["user_factors"], state["item_factors"], *biases, y_range)

    @property
    def n_users(self) -> int:
        """See Arrays."""
        return len(self.user_factors) - 1

    @property
    def n_items(self) -> int:
        """See Arrays."""
        return len(self.item_factors) - 1

    @property
    def ordering(self) -> DotArrays:
        """See Arrays."""
        return replace(self, user_biases=None, y_range=None)

    def of_items(self, items: Int64) -> Self:
        """See Arrays."""
        biases = None if self.item_biases is None else self.item_biases[items]
        return replace(self, item_factors=self.item_factors[items], item_biases=biases)

    def mirrored(self) -> DotArrays:
        """The model with users and items exchanged: a new item is its new user."""
        return DotArrays(
            self.item_factors, self.user_factors, self.item_biases, self.user_biases, self.y_range
        )

    def rows64(self, user_index: Int64) -> Float64:
        """The rows of users int64 [B]: float64 [B, F], or [B, F + 1] with the bias last."""
        rows = self.user_factors[user_index].astype(np.float64)
        return rows if self.user_biases is None else np.column_stack([rows, self.user_biases[user_index]])

    def scores64(self, user_index: Int64) -> Float64:
        """See Arrays."""
        return self.row_scores64(self.rows64(user_index))

    def row_scores64(self, rows: Float64) -> Float64:
        """See FoldInArrays."""
        scores = np.empty((len(rows), len(self.item_factors)))
        for part in row_slices(len(self.item_factors)):
            logits = rows @ self.item_rows64(part).T
            if self.item_biases is not None:
                logits = logits + self.item_biases[part].T
            scores[:, part] = to_range(logits, self.y_range)
        return scores

    def item_rows64(self, items: Int64 | slice) -> Float64:
        """What a user's row is multiplied by: float64 [n, F], or [n, F + 1] with a column of ones."""
        factors = self.item_factors[items].astype(np.float64)
        return factors if self.user_biases is None else np.column_stack([factors, np.ones(len(factors))])

    def item_rows(self, graph: GraphBuilder, items: ir.Value) -> ir.Value:
        """`item_rows64` as ONNX nodes: int64 [B, E] -> float32 [B, E, row]."""
        op = graph.op
        factors: ir.Value = op.Gather(self._table(graph, "item_factors", self.item_factors), items)
        if self.user_biases is None:
            return factors
        ones = op.Add(op.Mul(op.Slice(factors, [0], [1], [2]), 0.0), 1.0)
        rows: ir.Value = op.Concat(factors, ones, axis=2)
        return rows

    def user_rows(self, graph: GraphBuilder, user_index: ir.Value) -> dict[str, ir.Value]:
        """See Arrays."""
        tables = {"user_factors": self.user_factors}
        if self.user_biases is not None:
            tables["user_biases"] = self.user_biases
        return {
            name: graph.op.Gather(self._table(graph, name, array), user_index)
            for name, array in tables.items()
        }

    def row_logits(
        self, graph: GraphBuilder, rows: dict[str, ir.Value], banned: ir.Value | None = None
    ) -> tuple[ir.Value, ir.Value | None]:
        """See Arrays. One Gemm on the item table, as Gather reads it."""
        op = graph.op
        users, items = rows["user_factors"], self._table(graph, "item_factors", self.item_factors)
        biases = None
        if self.item_biases is not None:
            biases = op.Reshape(self._table(graph, "item_biases", self.item_biases), [1, -1])
        if banned is None:
            logits = op.Gemm(users, items, *([] if biases is None else [biases]), transB=1)
            return logits, rows.get("user_biases")
        # A sum after the product works in place; as the Gemm's third operand it would be copied first.
        penalties = op.Mul(op.Cast(banned, to=ir.DataType.FLOAT), MASKED)
        if biases is not None:
            penalties = op.Add(penalties, biases)
        # tract does not know that R is 1 or B; ONNX Runtime copies all scores where it can't name their rows.
        assert users.shape
        assert banned.shape
        n_rows = f"broadcast({users.shape[0]},{banned.shape[0]})"
        users = op.Expand(users, op.Concat(op.Shape(banned, start=0, end=1), [1], axis=0))
        users.shape = ir.Shape([n_rows, self.item_factors.shape[1]])
        logits = op.Add(op.Gemm(users, items, transB=1), penalties)
        logits.shape = ir.Shape([n_rows, len(self.item_factors)])
        return logits, rows.get("user_biases")

    def row_scores(self, graph: GraphBuilder, rows: dict[str, ir.Value], items: ir.Value) -> ir.Value:
        """See Arrays."""
        op = graph.op
        factors = op.Gather(self._table(graph, "item_factors", self.item_factors), items)  # [B, K, F]
        logits = op.Squeeze(op.MatMul(factors, op.Unsqueeze(rows["user_factors"], [2])), [2])
        if self.item_biases is not None:
            biases = op.Gather(self._table(graph, "item_biases", self.item_biases), items)  # [B, K, 1]
            logits = op.Add(logits, op.Squeeze(biases, [2]))
        if self.user_biases is not None:
            logits = op.Add(logits, rows["user_biases"])
        return arrays.to_range(op, logits, self.y_range)

    def _table(self, graph: GraphBuilder, name: str, array: Float32) -> ir.Value:
        return table(graph, self.prefix + name, array)

    @cached_property
    def row_size(self) -> float:
        """See FoldInArrays."""
        tables = [self.user_factors] if self.user_biases is None else [self.user_factors, self.user_biases]
        return max(float(max(table.max(), -table.min())) for table in tables) or 1.0

    def row_parts(self) -> dict[str, slice]:
        """See FoldInArrays."""
        n_factors = self.item_factors.shape[1]
        parts = {"user_factors": slice(0, n_factors)}
        return parts if self.user_biases is None else parts | {"user_biases": slice(n_factors, n_factors + 1)}

    def ridge(self, settings: FoldIn) -> Float64:
        """See FoldInArrays."""
        return self.ridge_of(settings.regularization, settings.n_items)

    def ridge_of(self, regularization: float, n_items: int | None = None) -> Float64:
        """The weights of the ridge: float64 [row].

        The logits of a bounded score have one scale. An unbounded score has the scale of the data: there the
        weight of a factor is relative to the mean squared length of the first `n_items` items' factors (by
        default of all), so that ratings in other units give the same lists. A bias multiplies 1 in any unit.
        """
        weights = np.full(self.item_rows64(AVERAGE).shape[1], float(regularization))
        if self.y_range is None:
            stop = None if n_items is None else 1 + n_items
            weights[: self.item_factors.shape[1]] *= float(self._squared_lengths[1:stop].mean()) or 1.0
        return weights

    @cached_property
    def _squared_lengths(self) -> Float64:
        """Of the items' factors: float64 [n_items + 1]."""
        lengths = np.empty(len(self.item_factors))
        for part in row_slices(len(lengths)):
            lengths[part] = np.square(self.item_factors[part], dtype=np.float64).sum(axis=1)
        return lengths

    def ridge_problem(
        self, item_indices: Int64, ratings: npt.NDArray[np.floating]
    ) -> tuple[Float64, Float64, Float64]:
        """The least-squares problem of a new user's difference d from the average user: factors @ d = target.

        Args:
            item_indices: int64 [H], from 1.
            ratings: float [H].

        Returns:
            factors float64 [H, row]; target float64 [H] (logits above the average user's); and the average
            user's logits, float64 [H].
        """
        factors = self.item_rows64(item_indices)
        expected = factors @ self.rows64(AVERAGE)[0]
        if self.item_biases is not None:
            expected = expected + self.item_biases[item_indices, 0]
        return factors, ridge.logit64(np.asarray(ratings, np.float64), self.y_range) - expected, expected

    def fold_in64(self, item_indices: Int64, ratings: npt.NDArray[np.floating], ridge: Float64) -> Float64:
        """See FoldInArrays: `numpy.linalg.solve` of the normal equations in `export.model.ridge`."""
        rated = item_indices > 0
        factors, target, _ = self.ridge_problem(item_indices[rated], np.asarray(ratings)[rated])
        systems = factors.T @ factors + ridge[..., None] * np.eye(ridge.shape[-1])
        difference = np.linalg.solve(systems, (factors.T @ target)[:, None])[..., 0]
        row: Float64 = self.rows64(AVERAGE)[0] + difference
        return row

    def fold_in(
        self, graph: GraphBuilder, item_indices: ir.Value, ratings: ir.Value, settings: FoldIn
    ) -> dict[str, ir.Value]:
        """See FoldInArrays. The ratings of padding, even NaN, change nothing."""
        op = graph.op
        masked, target, average = self._graph_problem(graph, item_indices, ratings)
        moment, weights = self._moment(settings), self.ridge(settings)
        difference = ridge.solve(graph, masked, target, moment, weights, settings.steps)
        row = op.Add(op.Squeeze(difference, [1]), average)
        parts = self.row_parts()
        if len(parts) == 1:
            return dict.fromkeys(parts, row)
        return {name: op.Slice(row, [part.start], [part.stop], [1]) for name, part in parts.items()}

    def shares64(
        self, item_indices: Int64, ratings: npt.NDArray[np.floating], ridge_weights: Float64, rows: Float64
    ) -> Float64:
        """What each rating adds to the products of a new user's row with `rows`, in float64.

        Args:
            item_indices: int64 [H], 0-padded.
            ratings: float [H].
            ridge_weights: float64 [row].
            rows: float64 [E, row].

        Returns:
            [E, H], 0 where padded. Each row's sum is the product with the row's distance from the average's.
        """
        rated = item_indices > 0
        found = np.zeros((len(rows), len(item_indices)))
        factors, target, _ = self.ridge_problem(item_indices[rated], np.asarray(ratings)[rated])
        found[:, rated] = ridge.shares64(factors, target, rows, ridge_weights)
        return found

    def shares(
        self,
        graph: GraphBuilder,
        item_indices: ir.Value,
        ratings: ir.Value,
        settings: FoldIn,
        rows: ir.Value,
        steps: int,
    ) -> ir.Value:
        """`shares64` as ONNX nodes: [B, H], [B, H] and [B, E, row] -> float32 [B, E, H]."""
        masked, target, _ = self._graph_problem(graph, item_indices, ratings)
        moment, weights = self._moment(settings), self.ridge(settings)
        return ridge.shares(graph, masked, target, rows, moment, weights, steps)

    def _moment(self, settings: FoldIn) -> Float64:
        return ridge.moment(self.item_factors[1 : 1 + settings.n_items], ones=self.user_biases is not None)

    def _graph_problem(
        self, graph: GraphBuilder, item_indices: ir.Value, ratings: ir.Value
    ) -> tuple[ir.Value, ir.Value, ir.Value]:
        """`ridge_problem` as nodes: factors [B, H, row], target [B, H, 1], and the average user, [1, row]."""
        op = graph.op
        rated = op.Unsqueeze(op.Cast(op.Greater(item_indices, 0), to=ir.DataType.FLOAT), [2])  # [B, H, 1]
        factors = op.Gather(self._table(graph, "item_factors", self.item_factors), item_indices)  # [B, H, F]
        if self.user_biases is not None:
            factors = op.Concat(factors, rated, axis=2)  # [B, H, F + 1]
        average = table(graph, "average_user", self.rows64(AVERAGE).astype(np.float32))
        observed = op.Unsqueeze(ridge.logit(op, ratings, self.y_range), [2])  # [B, H, 1]
        expected = op.MatMul(factors, op.Transpose(average, perm=[1, 0]))
        if self.item_biases is not None:
            biases = self._table(graph, "item_biases", self.item_biases)
            expected = op.Add(expected, op.Gather(biases, item_indices))
        # Where, not Mul: a NaN times 0 is a NaN.
        target = op.Where(op.Greater(rated, 0.5), op.Sub(observed, expected), 0.0)
        return op.Mul(factors, rated), target, average
