"""Parts that rank together: their tables side by side, and a new user's row from each part's closed form."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
from onnxscript import GraphBuilder

from export.model.arrays import Float32, Float64, Int64, table
from export.model.dot import AVERAGE, DotArrays
from export.model.row_solvers import RowSolver
from serve.bundle.manifest import ListFoldIn

# Of the graph's tables: the tables of the scores have these names without it.
PREFIX = "ranking_"


@dataclass(frozen=True, eq=False)
class PartColumns:
    """One of the parts."""

    kind: str
    factor: float
    """What its users' rows are multiplied by."""
    width: int
    """Its number of columns."""
    solver: RowSolver | None
    """Its closed form for a new user; None: it has none, and a new user's columns are the average user's."""
    predicts_ratings: bool = False
    """Whether it is the part that predicts ratings, of which the fold-in gives a new user's row."""


@dataclass(frozen=True, eq=False)
class SideBySide:
    """score = sum of the parts' products + popularity, which only new users have.

    The last column of the tables is the popularity: 0 for every user of the training.
    """

    dot: DotArrays
    """The tables side by side."""
    parts: tuple[PartColumns, ...]
    popularity: tuple[float, float]
    """m and s of the last column, s (log(1 + ratings) - m)."""

    @classmethod
    def of(cls, dot: DotArrays, parts: Sequence[PartColumns], n_item_ratings: Int64, spread: float) -> Self:
        """Add the column of popularity to tables.

        Args:
            dot: the parts' tables, side by side.
            parts: in the order of their columns.
            n_item_ratings: int64 [n_items + 1], training ratings of each item.
            spread: standard deviation of a user's scores, which that of the column will be, too.
        """
        logs = np.log1p(n_item_ratings.astype(np.float64))
        mean, scale = float(logs[1:].mean()), spread / (float(logs[1:].std()) or 1.0)
        popularity = scale * (logs - mean)
        popularity[0] = 0
        zeros = np.zeros((dot.n_users + 1, 1), np.float32)
        dot = replace(
            dot,
            user_factors=np.hstack([dot.user_factors, zeros]),
            item_factors=np.hstack([dot.item_factors, popularity[:, None].astype(np.float32)]),
            user_biases=None,
            y_range=None,
            prefix=PREFIX,
        )
        return cls(dot, tuple(parts), (mean, scale))

    @property
    def without_popularity(self) -> DotArrays:
        """The product that users of the training are ranked by."""
        tables = {name: getattr(self.dot, name)[:, :-1] for name in ("user_factors", "item_factors")}
        return replace(self.dot, prefix="", **tables)

    def columns(self, number: int) -> slice:
        """Columns of a part, counted from 0."""
        start = sum(part.width for part in self.parts[:number])
        return slice(start, start + self.parts[number].width)

    @property
    def can_fold_in(self) -> bool:
        """Whether a part has a closed form."""
        return any(part.solver for part in self.parts)

    @property
    def n_users(self) -> int:
        """See Arrays."""
        return self.dot.n_users

    @property
    def n_items(self) -> int:
        """See Arrays."""
        return self.dot.n_items

    @property
    def item_factors(self) -> Float32:
        """See Arrays; without the popularity."""
        return self.dot.item_factors[:, :-1]

    @property
    def y_range(self) -> None:
        """See Arrays."""
        return

    @property
    def ordering(self) -> SideBySide:
        """See Arrays."""
        return self

    def of_items(self, items: Int64) -> Self:
        """See Arrays."""
        return replace(self, dot=self.dot.of_items(items))

    def scores64(self, user_index: Int64) -> Float64:
        """See Arrays."""
        return self.dot.scores64(user_index)

    def user_rows(self, graph: GraphBuilder, user_index: ir.Value) -> dict[str, ir.Value]:
        """See Arrays."""
        return self.dot.user_rows(graph, user_index)

    def row_logits(
        self, graph: GraphBuilder, rows: dict[str, ir.Value], banned: ir.Value | None = None
    ) -> tuple[ir.Value, ir.Value | None]:
        """See Arrays."""
        return self.dot.row_logits(graph, rows, banned)

    def row_scores(self, graph: GraphBuilder, rows: dict[str, ir.Value], items: ir.Value) -> ir.Value:
        """See Arrays."""
        return self.dot.row_scores(graph, rows, items)

    def row_scores64(self, rows: Float64) -> Float64:
        """See FoldInArrays."""
        return self.dot.row_scores64(rows)

    @property
    def row_size(self) -> float:
        """See FoldInArrays."""
        return self.dot.row_size

    def row_parts(self) -> dict[str, slice]:
        """See FoldInArrays."""
        return self.dot.row_parts()

    def own_row64(
        self, item_indices: Int64, ratings: npt.NDArray[np.floating], rating_row: Float64 | None
    ) -> Float64:
        """A new user's row from the ratings alone: items int64 [H], 0-padded, ratings float [H] -> [F].

        `rating_row` is the row of the part that predicts ratings, if it is among the parts.
        """
        average, pieces, start = self.dot.rows64(AVERAGE)[0], [], 0
        for part in self.parts:
            stop = start + part.width
            if part.solver is not None:
                pieces.append(part.factor * part.solver.row64(item_indices, ratings))
            elif part.predicts_ratings and rating_row is not None:
                pieces.append(part.factor * rating_row[: part.width])
            else:
                pieces.append(average[start:stop])
            start = stop
        row: Float64 = np.append(np.concatenate(pieces), 0.0)
        return row

    def prior64(self, settings: ListFoldIn) -> Float64:
        """What a new user starts from: the average user's row, and popularity. float64 [F]."""
        prior: Float64 = self.dot.rows64(AVERAGE)[0]
        prior[-1] = settings.popularity
        return prior

    def list_row64(
        self,
        item_indices: Int64,
        ratings: npt.NDArray[np.floating],
        settings: ListFoldIn,
        rating_row: Float64 | None,
    ) -> Float64:
        """A new user's row: the own row plus the prior, the less of it the more ratings there are."""
        n = np.count_nonzero(item_indices)
        share = settings.prior_ratings / (settings.prior_ratings + n) if n else 1.0
        own = self.own_row64(item_indices, ratings, rating_row)
        row: Float64 = (own if n else 0 * own) + share * self.prior64(settings)
        return row

    def list_row(
        self,
        graph: GraphBuilder,
        item_indices: ir.Value,
        ratings: ir.Value,
        settings: ListFoldIn,
        rating_row: ir.Value | None,
    ) -> dict[str, ir.Value]:
        """`list_row64` as ONNX nodes, for [B, H]."""
        op = graph.op
        rated = op.Cast(op.Greater(item_indices, 0), to=ir.DataType.FLOAT)
        n = op.ReduceSum(rated, [1], keepdims=1)  # [B, 1]
        average, pieces, start = self.dot.rows64(AVERAGE).astype(np.float32), [], 0
        for part in self.parts:
            stop = start + part.width
            if part.solver is not None:
                row = part.solver.row(graph, item_indices, ratings, settings.n_items, settings.steps)
            elif part.predicts_ratings and rating_row is not None:
                row = op.Slice(rating_row, [0], [part.width], [1])
            else:
                row = None
            if row is not None:
                pieces.append(op.Mul(row, part.factor))
            else:
                columns = table(graph, f"average_user_{start}", average[:, start:stop])
                pieces.append(op.Add(op.Mul(n, 0.0), columns))  # [B, width]
            start = stop
        pieces.append(op.Mul(n, 0.0))
        some = op.Cast(op.Greater(n, 0.0), to=ir.DataType.FLOAT)
        own = op.Mul(op.Concat(*pieces, axis=1), some)
        prior = table(graph, "fold_in_prior", self.prior64(settings)[None].astype(np.float32))
        # Without ratings the share is 1, even where the prior counts for none.
        share = op.Where(
            op.Greater(n, 0.0), op.Div(settings.prior_ratings, op.Add(n, settings.prior_ratings + 1e-30)), 1.0
        )
        return {"user_factors": op.Add(own, op.Mul(share, prior))}
