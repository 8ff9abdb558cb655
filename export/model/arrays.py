"""What graphs know of a model: arrays that compute logits as ONNX nodes and scores in float64.

Graphs take arrays, not modules, so that tables from another trainer or of another precision get the same
graphs. One file beside this one holds the arrays of one kind of arithmetic (`dot.py`, `mlp.py`).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol, Self

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
from onnxscript import GraphBuilder

from serve.bundle.manifest import FoldIn

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]
Int64 = npt.NDArray[np.int64]

ROWS_AT_ONCE = 1 << 13
"""Rows of a table that are worked on at once in float64: a whole table in it would be as large as two, and
parts that leave the cache take up to twice the time."""


class Arrays(Protocol):
    """A fitted model. Row 0 of every table is "unknown"."""

    @property
    def can_fold_in(self) -> bool:
        """Whether a new user has a closed form; the arrays are then `FoldInArrays`."""

    @property
    def n_users(self) -> int:
        """Number of users without row 0."""

    @property
    def n_items(self) -> int:
        """Number of items without row 0."""

    @property
    def item_factors(self) -> Float32:
        """float32 [n_items + 1, F], for cosines between items."""

    @property
    def y_range(self) -> tuple[float, float] | None:
        """The range of the sigmoid on the logits (ratings); None where a score is the logit itself."""

    @property
    def ordering(self) -> Arrays:
        """The model whose scores order items as these do: without the user's bias and the range."""

    def of_items(self, items: Int64) -> Self:
        """The model restricted to these items, int64 [n], row 0 included only if it is named."""

    def scores64(self, user_index: Int64) -> Float64:
        """Scores of users int64 [B] for every item: float64 [B, n_items + 1]."""

    def user_rows(self, graph: GraphBuilder, user_index: ir.Value) -> dict[str, ir.Value]:
        """ONNX nodes: users int64 [B] -> their rows, float32 [B, …], by the names of the tables."""

    def row_logits(
        self, graph: GraphBuilder, rows: dict[str, ir.Value], banned: ir.Value | None = None
    ) -> tuple[ir.Value, ir.Value | None]:
        """ONNX nodes: rows -> logits float32 [B, n_items + 1], and a bias for each row.

        The bias, float32 [B, 1] or None, does not change the order of a row, so it is added to the K best
        logits only. Items that are `banned`, bool [1 or B, n_items + 1], have the logit -1e30.
        """

    def row_scores(self, graph: GraphBuilder, rows: dict[str, ir.Value], items: ir.Value) -> ir.Value:
        """ONNX nodes: rows, and items int64 [B, K] -> scores of these items, float32 [B, K]."""


class FoldInArrays(Arrays, Protocol):
    """A model with rows of users outside its tables: the factors, then the bias if any."""

    @property
    def row_size(self) -> float:
        """Largest absolute entry of the users' rows, or 1 where all are 0; row errors are relative to it."""

    def row_parts(self) -> dict[str, slice]:
        """Name of the graph's output -> its columns in a row."""

    def row_scores64(self, rows: Float64) -> Float64:
        """Scores of users' rows, float64 [B, row], for every item: float64 [B, n_items + 1]."""


class RidgeArrays(FoldInArrays, Protocol):
    """A model of ratings in which a new user has a closed form."""

    def ridge(self, settings: FoldIn) -> Float64:
        """Weights of the squared entries of a row's distance from the average user's row: float64 [row]."""

    def fold_in64(self, item_indices: Int64, ratings: npt.NDArray[np.floating], ridge: Float64) -> Float64:
        """The row of a new user: items int64 [H], 0-padded, and ratings float [H] -> float64 [row].

        `ridge` is float64 [row], or [n, row] for as many rows.
        """

    def fold_in(
        self, graph: GraphBuilder, item_indices: ir.Value, ratings: ir.Value, settings: FoldIn
    ) -> dict[str, ir.Value]:
        """ONNX nodes: items int64 [B, H], 0-padded, and ratings float32 [B, H] -> the parts of the rows."""


def row_slices(n: int) -> Iterator[slice]:
    """The rows 0 to n - 1 in pieces of `ROWS_AT_ONCE`."""
    return (slice(start, min(start + ROWS_AT_ONCE, n)) for start in range(0, n, ROWS_AT_ONCE))


def table(graph: GraphBuilder, name: str, array: npt.NDArray[Any]) -> ir.Value:
    """An initializer under exactly this name; a second call with the name returns the first value."""
    if name in graph.graph.initializers:
        return graph.graph.initializers[name]
    return graph.initializer(ir.tensor(np.ascontiguousarray(array), name=name), qualify=False)


def to_range(op: Any, logits: ir.Value, y_range: tuple[float, float] | None) -> ir.Value:
    """`low + (high - low) sigmoid(logits)`; the logits themselves where there is no range."""
    if y_range is None:
        return logits
    low, high = y_range
    scores: ir.Value = op.Add(op.Mul(op.Sigmoid(logits), high - low), low)
    return scores
