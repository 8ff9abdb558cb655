"""Models whose score is a network on the user's and the item's factors: `mlp`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
from onnxscript import GraphBuilder

from export.model import arrays, ridge
from export.model.arrays import Float32, Float64, Int64, table
from export.model.linear_map import LinearMap, fit_linear_map, inputs64
from export.model.reference import MASKED
from export.model.ridge import logit64
from export.model.score_range import to_range
from serve.bundle.manifest import FoldIn

# The widest part of an MLP's first activation that is computed at once, in floats per user: 256 KiB, so
# that it stays in a core's L2 cache and memory does not grow with the catalogue.
CHUNK_FLOATS = 65_536
# More chunks than this cost more in graph size and start-up than they save in memory.
MAX_CHUNKS = 64
# torch.nn.BatchNorm1d's default; the models never change it.
BATCH_NORM_EPS = 1e-5


@dataclass(frozen=True, eq=False)
class MlpArrays:
    """score = MLP(concat(user, item)), the first layer split into its two halves and already applied.

    With W = [W_user | W_item], relu(W @ concat(u, v) + b) = relu((W_user u + b) + W_item v): both halves are
    tables, so that a query pays one addition instead of a [B, N, wide] concatenation.
    """

    user_hidden: Float32
    """[n_users + 1, H]: W_user u + b"""
    item_hidden: Float32
    """[n_items + 1, H]: W_item v"""
    layers: tuple[tuple[Float32, Float32], ...]
    """(weight [out, in], bias [out]) of the layers after the first, each applied after a ReLU; the last has
    out = 1. Batch norm is folded in."""
    item_factors: Float32
    """[n_items + 1, F]: the item embeddings, for neighbours"""
    y_range: tuple[float, float] | None
    linear_map: LinearMap | None = None
    """Approximates a new user's row; None: there are no rows for new users"""

    @classmethod
    def of_state(cls, state: Mapping[str, Float32], y_range: tuple[float, float] | None) -> Self:
        """From the state of an `mlp` model (`layers.N.weight`, `.bias`, `.running_mean`, …)."""
        (first_weight, first_bias), *others = _folded_layers(state)
        user_factors = state["user_factors"].astype(np.float64)
        item_factors = state["item_factors"].astype(np.float64)
        width = user_factors.shape[1]
        return cls(
            user_hidden=(user_factors @ first_weight[:, :width].T + first_bias).astype(np.float32),
            item_hidden=(item_factors @ first_weight[:, width:].T).astype(np.float32),
            layers=tuple((weight.astype(np.float32), bias.astype(np.float32)) for weight, bias in others),
            item_factors=state["item_factors"],
            y_range=y_range,
        )

    @property
    def can_fold_in(self) -> bool:
        """See Arrays."""
        return self.linear_map is not None

    def with_linear_map(
        self,
        user_index: npt.NDArray[np.integer],
        item_index: npt.NDArray[np.integer],
        ratings: Float32,
        settings: FoldIn,
    ) -> Self:
        """The same with an approximation for new users, fitted to ratings of the training, [n] each."""
        average = self._average_logits()
        logits = ridge.logit64(ratings.astype(np.float64), self.y_range)
        fitted = fit_linear_map(
            self.user_hidden,
            self.item_hidden,
            average,
            (user_index, item_index, logits),
            settings.regularization,
            settings.prior_ratings,
        )
        return replace(self, linear_map=fitted)

    def with_fitted_map(self, weights: Float32, prior_ratings: float) -> Self:
        """The same with a map that was fitted before: weights [H + 1, H]."""
        return replace(self, linear_map=LinearMap(self._average_logits(), weights, prior_ratings))

    def _average_logits(self) -> Float32:
        """The average user's: [n_items + 1, 1]; row 0 is 0."""
        average: Float32 = self._logits64(self.user_hidden[:1].astype(np.float64)).T.astype(np.float32)
        average[0] = 0
        return average

    @property
    def n_users(self) -> int:
        """See Arrays."""
        return len(self.user_hidden) - 1

    @property
    def n_items(self) -> int:
        """See Arrays."""
        return len(self.item_hidden) - 1

    @property
    def ordering(self) -> MlpArrays:
        """See Arrays."""
        return replace(self, y_range=None)

    def of_items(self, items: Int64) -> Self:
        """See Arrays."""
        return replace(self, item_factors=self.item_factors[items], item_hidden=self.item_hidden[items])

    def scores64(self, user_index: Int64) -> Float64:
        """See Arrays."""
        return self.row_scores64(self.user_hidden[user_index].astype(np.float64))

    def row_scores64(self, rows: Float64) -> Float64:
        """See FoldInArrays."""
        return to_range(self._logits64(rows), self.y_range)

    def _logits64(self, rows: Float64) -> Float64:
        items = self.item_hidden.astype(np.float64)
        logits = []
        for user in rows:
            hidden = user + items  # [N, H]
            for weight, bias in self.layers:
                hidden = np.maximum(hidden, 0.0) @ weight.T.astype(np.float64) + bias
            logits.append(hidden[:, 0])
        return np.stack(logits)

    @property
    def row_size(self) -> float:
        """See FoldInArrays."""
        return float(np.abs(self.user_hidden).max()) or 1.0

    def row_parts(self) -> dict[str, slice]:
        """See FoldInArrays."""
        return {"user_factors": slice(0, self.user_hidden.shape[1])}

    def ridge(self, settings: FoldIn) -> Float64:
        """See RidgeArrays: there is no ridge to solve for a new user, only the fitted map."""
        return np.zeros(0)

    def fold_in64(self, item_indices: Int64, ratings: npt.NDArray[np.floating], ridge: Float64) -> Float64:
        """See RidgeArrays."""
        assert self.linear_map is not None
        rated = item_indices > 0
        e = inputs64(
            self.item_hidden,
            self.linear_map.average_logits,
            item_indices[rated],
            logit64(np.asarray(ratings, np.float64)[rated], self.y_range),
            self.linear_map.prior_ratings,
        )
        row: Float64 = self.user_hidden[0] + e @ self.linear_map.weights.astype(np.float64)
        return np.broadcast_to(row, (*ridge.shape[:-1], len(row)))

    def fold_in(
        self, graph: GraphBuilder, item_indices: ir.Value, ratings: ir.Value, settings: FoldIn
    ) -> dict[str, ir.Value]:
        """See RidgeArrays."""
        assert self.linear_map is not None
        op = graph.op
        is_rated = op.Greater(item_indices, 0)
        average = op.Gather(table(graph, "average_logits", self.linear_map.average_logits), item_indices)
        residuals = op.Sub(ridge.logit(op, ratings, self.y_range), op.Squeeze(average, [2]))
        # Where, not Mul: a NaN times 0 is a NaN.
        residuals = op.Unsqueeze(op.Where(is_rated, residuals, 0.0), [1])  # [B, 1, H]
        hidden = op.Gather(table(graph, "item_hidden", self.item_hidden), item_indices)  # [B, H, width]
        sums = op.Concat(
            op.Squeeze(op.MatMul(residuals, hidden), [1]), op.ReduceSum(residuals, [2], keepdims=0), axis=1
        )
        n = op.ReduceSum(op.Cast(is_rated, to=ir.DataType.FLOAT), [1], keepdims=1)  # [B, 1]
        e = op.Div(sums, op.Add(n, self.linear_map.prior_ratings))
        difference = op.MatMul(e, table(graph, "fold_in_map", self.linear_map.weights))
        return {"user_factors": op.Add(difference, table(graph, "average_user", self.user_hidden[:1]))}

    def user_rows(self, graph: GraphBuilder, user_index: ir.Value) -> dict[str, ir.Value]:
        """See Arrays."""
        return {"user_factors": graph.op.Gather(table(graph, "user_hidden", self.user_hidden), user_index)}

    def row_logits(
        self, graph: GraphBuilder, rows: dict[str, ir.Value], banned: ir.Value | None = None
    ) -> tuple[ir.Value, None]:
        """See Arrays. The catalogue is scored in chunks."""
        op = graph.op
        user = op.Unsqueeze(rows["user_factors"], [1])  # [B, 1, H]
        items = table(graph, "item_hidden", self.item_hidden)  # [N, H]
        n_rows, width = self.item_hidden.shape
        size = max(CHUNK_FLOATS // width, -(-n_rows // MAX_CHUNKS))
        layers = self._layers(graph)
        chunks = []
        for start in range(0, n_rows, size):
            chunk = op.Slice(items, [start], [min(start + size, n_rows)], [0]) if size < n_rows else items
            chunks.append(_chunk_logits(op, user, chunk, layers))
        logits = chunks[0] if len(chunks) == 1 else op.Concat(*chunks, axis=1)
        return (logits if banned is None else op.Where(banned, MASKED, logits)), None

    def row_scores(self, graph: GraphBuilder, rows: dict[str, ir.Value], items: ir.Value) -> ir.Value:
        """See Arrays."""
        op = graph.op
        user = op.Unsqueeze(rows["user_factors"], [1])  # [B, 1, H]
        hidden = op.Gather(table(graph, "item_hidden", self.item_hidden), items)  # [B, K, H]
        return arrays.to_range(op, _chunk_logits(op, user, hidden, self._layers(graph)), self.y_range)

    def _layers(self, graph: GraphBuilder) -> list[tuple[ir.Value, ir.Value]]:
        return [
            (table(graph, f"layer_{i}_weight", weight.T), table(graph, f"layer_{i}_bias", bias))
            for i, (weight, bias) in enumerate(self.layers, 1)
        ]


def _chunk_logits(
    op: Any, user: ir.Value, items: ir.Value, layers: list[tuple[ir.Value, ir.Value]]
) -> ir.Value:
    """`user` [B, 1, H] against `items` [C, H]: logits [B, C]."""
    hidden = op.Add(user, items)  # [B, C, H]
    for weight, bias in layers:
        hidden = op.Add(op.MatMul(op.Relu(hidden), weight), bias)
    logits: ir.Value = op.Squeeze(hidden, [2])  # [B, C, 1] -> [B, C]
    return logits


def _folded_layers(state: Mapping[str, Float32]) -> list[tuple[Float64, Float64]]:
    """(weight, bias) of each linear layer, in float64, with the batch norm before it folded in.

    A batch norm stands after a ReLU and before a linear layer:
    W (g (x - m) / s + b) + c = (W g / s) x + (W (b - g m / s) + c).
    """
    folded: list[tuple[Float64, Float64]] = []
    scale: Float64 | float = 1.0
    shift: Float64 | float = 0.0
    for number in sorted({int(name.split(".")[1]) for name in state if name.startswith("layers.")}):
        names = ("weight", "bias", "running_mean", "running_var")
        found = {name: state.get(f"layers.{number}.{name}") for name in names}
        part = {name: array.astype(np.float64) for name, array in found.items() if array is not None}
        weight, bias = part["weight"], part.get("bias", np.zeros(len(part["weight"])))
        if "running_mean" in part:
            scale = weight / np.sqrt(part["running_var"] + BATCH_NORM_EPS)
            shift = bias - scale * part["running_mean"]
        else:
            folded.append((weight * scale, bias + weight @ np.broadcast_to(shift, weight.shape[1])))
            scale, shift = 1.0, 0.0
    return folded
