"""What every model is to the graphs: arrays that know their arithmetic, in ONNX nodes and in float64.

Graphs know arrays, not modules, so that tables from elsewhere (another trainer, another precision) get the
same graphs. One file beside this one holds the arrays of one kind of arithmetic (`dot.py`, `mlp.py`).
"""

from __future__ import annotations

from typing import Protocol, Self

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
from onnxscript import GraphBuilder

from serve.bundle.manifest import FoldIn

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]
Int64 = npt.NDArray[np.int64]


class Arrays(Protocol):
    """A fitted model. Row 0 of every table is "unknown"."""

    can_fold_in: bool
    """Whether a new user has a closed form: then these are `FoldInArrays`."""

    @property
    def n_users(self) -> int:
        """Users, row 0 left out."""

    @property
    def n_items(self) -> int:
        """Items, row 0 left out."""

    @property
    def item_factors(self) -> Float32:
        """float32 [n_items + 1, F]: what neighbours are found by."""

    @property
    def y_range(self) -> tuple[float, float] | None:
        """The sigmoid range of the scores (ratings); None where the score is the logit."""

    def of_items(self, items: Int64) -> Self:
        """The model of these items alone, int64 [n], in place of all, row 0 included."""

    def scores64(self, user_index: Int64) -> Float64:
        """Scores of users int64 [B] for every item: float64 [B, n_items + 1]."""

    def logits(self, graph: GraphBuilder, user_index: ir.Value) -> tuple[ir.Value, ir.Value | None]:
        """ONNX nodes: users int64 [B] -> logits float32 [B, n_items + 1], and what to add to a whole row.

        The second value, float32 [B, 1] or None, can't change the order of a row: it is added to the ranked
        items alone.
        """


class FoldInArrays(Arrays, Protocol):
    """A model in which a new user has a closed form. A user is a row: factors, then the bias if any."""

    @property
    def row_size(self) -> float:
        """Largest absolute entry of the users' rows, 1 where all are 0: errors of rows are shares of it."""

    def row_parts(self) -> dict[str, slice]:
        """The names of the graph's outputs for a row, and their columns."""

    def fold_in64(
        self, item_indices: Int64, ratings: npt.NDArray[np.floating], regularization: float
    ) -> Float64:
        """The row of a new user: items int64 [H], 0 is padding; ratings float [H] -> float64 [row]."""

    def row_scores64(self, rows: Float64) -> Float64:
        """Scores of users' rows, float64 [B, row], for every item: float64 [B, n_items + 1]."""

    def fold_in(
        self, graph: GraphBuilder, item_indices: ir.Value, ratings: ir.Value, settings: FoldIn
    ) -> dict[str, ir.Value]:
        """ONNX nodes: items int64 [B, H], 0-padded, and ratings float32 [B, H] -> the parts of the rows."""

    def row_logits(self, graph: GraphBuilder, parts: dict[str, ir.Value]) -> tuple[ir.Value, ir.Value | None]:
        """ONNX nodes: the parts of the rows -> as `logits`."""
