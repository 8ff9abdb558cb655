"""Rows of new items in the tables that rank, by the items' half-step of implicit ALS.

With the users' rows U fixed, the row v of an item minimises

    sum over its raters of w (1 - u . v)^2  +  a sum over all users of (u . v)^2  +  r |v|^2

and is then multiplied by a scale. The strengths of each part are fitted by leaving known items out: such an
item is placed anew by some of its raters, whose rows are made again without it, and the scores of all users
should come near to those of the item's own row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from typing import NamedTuple

import numpy as np

from export.add_items.item_rows import Rated
from export.model.arrays import Float64
from export.model.dot import DotArrays
from export.model.inputs import SeenRatings
from export.model.row_solvers import ImplicitRidge, InputRows
from export.model.side_by_side import PartColumns, SideBySide
from recsys.models.ials import weights_of
from serve.bundle.changes import ListRows

UNOBSERVED_WEIGHTS = (0.0, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
REGULARIZATIONS = (0.01, 0.1, 1.0, 10.0)
# Raters that a known item is placed by; new items mostly have so few.
RATERS = (5, 10, 20)
N_JUDGED = 60
MIN_JUDGED_RATINGS = 10


class Placed(NamedTuple):
    """The tables with rows for new items."""

    ranking: SideBySide
    rows: dict[str, ListRows]
    """Kind of each part -> how its rows were placed."""


def with_ranked_items(
    ranking: SideBySide, items: Sequence[Rated], seen: SeenRatings, rating_arrays: DotArrays | None
) -> Placed:
    """Append a row for each new item; other rows don't change.

    Args:
        ranking: the parts of a bundle.
        items: ratings of each new item.
        seen: ratings of the bundle's own items.
        rating_arrays: the part that predicts ratings with its new items, if there is one.
    """
    n, dot = len(items), ranking.dot
    columns, biases, parts, settings = [], np.zeros(n), [], {}
    for number, part in enumerate(ranking.parts):
        if part.predicts_ratings:
            assert rating_arrays is not None
            rows = rating_arrays.item_factors[-n:].astype(np.float64)
            if rating_arrays.item_biases is not None:
                biases += part.factor * rating_arrays.item_biases[-n:, 0]
        else:
            half_step = _HalfStep.of(ranking, number)
            settings[part.kind] = found = half_step.fit(part, seen)
            rows = np.stack([half_step.row(item, found) for item in items])
            if half_step.biased:
                biases += part.factor * rows[:, -1]
                rows = rows[:, :-1]
            part = replace(part, solver=_with_rows(part, dot.item_factors[:, ranking.columns(number)], rows))
        columns.append(rows)
        parts.append(part)
    mean, scale = ranking.popularity
    n_ratings = np.array([len(item.user_index) for item in items])
    columns.append(scale * (np.log1p(n_ratings) - mean)[:, None])
    new = np.hstack(columns).astype(np.float32)
    item_biases = None
    if dot.item_biases is not None:
        item_biases = np.append(dot.item_biases, biases[:, None].astype(np.float32), axis=0)
    dot = replace(dot, item_factors=np.append(dot.item_factors, new, axis=0), item_biases=item_biases)
    return Placed(replace(ranking, dot=dot, parts=tuple(parts)), settings)


def _with_rows(part: PartColumns, known: np.ndarray, rows: Float64) -> InputRows | ImplicitRidge | None:
    """The part's closed form with the tables that it has of items; `known`: rows of the old items."""
    solver = part.solver
    if isinstance(solver, InputRows):
        # Input rows are close to linear in output rows, as B is close to symmetric.
        outputs, inputs = known[1:].astype(np.float64), solver.input_factors[1:].astype(np.float64)
        gram = outputs.T @ outputs
        gram += 1e-6 * np.trace(gram) / len(gram) * np.eye(len(gram))
        new = rows @ np.linalg.solve(gram, outputs.T @ inputs)
        return InputRows(np.append(solver.input_factors, new.astype(np.float32), axis=0))
    if isinstance(solver, ImplicitRidge):
        whitened = solver.whitened(rows).astype(np.float32)
        return replace(solver, item_factors=np.append(solver.item_factors, whitened, axis=0))
    return None


class _HalfStep(NamedTuple):
    """The half-step of one part."""

    users: Float64
    """[n_users + 1, F], or [n_users + 1, F + 1] with a column of ones for the items' biases."""
    gram: Float64
    """Of the users but row 0, [F, F]"""
    items: Float64
    """Own rows of the known items, [n_items + 1, F], the biases last."""
    biased: bool

    @classmethod
    def of(cls, ranking: SideBySide, number: int) -> _HalfStep:
        part, columns = ranking.parts[number], ranking.columns(number)
        users = ranking.dot.user_factors[:, columns].astype(np.float64) / part.factor
        items = ranking.dot.item_factors[:, columns].astype(np.float64)
        biased = part.kind == "dot-bias" and ranking.dot.item_biases is not None
        if biased:
            assert ranking.dot.item_biases is not None
            users = np.column_stack([users, np.ones(len(users))])
            items = np.column_stack([items, ranking.dot.item_biases / part.factor])
        return cls(users, users[1:].T @ users[1:], items, biased)

    def row(self, item: Rated, settings: ListRows, users: Float64 | None = None) -> Float64:
        """The row of an item, [F]; `users`: rows of its raters, by default their own."""
        users = self.users[item.user_index] if users is None else users
        weights = np.ones(len(users))
        if settings.confidence is not None:
            weights = weights_of(item.ratings, np.array(settings.confidence)).astype(np.float64)
        penalty = settings.regularization * np.trace(self.gram) / len(self.users) * np.eye(len(self.gram))
        system = (users * weights[:, None]).T @ users + settings.unobserved_weight * self.gram + penalty
        return settings.scale * np.linalg.solve(system, users.T @ weights)

    def fit(self, part: PartColumns, seen: SeenRatings) -> ListRows:
        """The strengths and the scale with the least squared error of known items' scores."""
        rng = np.random.default_rng(6)
        solver = part.solver
        confidence = None
        if isinstance(solver, ImplicitRidge) and solver.back is None:
            confidence = (float(solver.confidence[0]), float(solver.confidence[1]))
        judged = []
        counts = np.bincount(seen.item_index, minlength=len(self.items))
        many = np.flatnonzero(counts >= min(MIN_JUDGED_RATINGS, counts.max()))
        for place, known in enumerate(rng.permutation(many)[:N_JUDGED].tolist()):
            found = np.flatnonzero(seen.item_index == known)
            found = rng.permutation(found)[: RATERS[place % len(RATERS)]]
            item = Rated(seen.user_index[found], seen.ratings[found])
            rows = self.users[item.user_index]
            if solver is not None:
                for row, user in zip(rows, item.user_index.tolist(), strict=True):
                    rated, ratings = seen.of_user(user)
                    others = rated != known
                    row[: part.width] = solver.row64(rated[others], ratings[others])
            judged.append((known, item, rows))
        best = None
        exact = self.items[[known for known, _, _ in judged]]
        total = _size(exact, self.gram)
        for weight, regularization in product(UNOBSERVED_WEIGHTS, REGULARIZATIONS):
            settings = ListRows(
                unobserved_weight=weight,
                regularization=regularization,
                scale=1.0,
                confidence=confidence,
                error=1.0,
            )
            rows = np.stack([self.row(item, settings, users) for _, item, users in judged])
            size = _size(rows, self.gram)
            scale = float(np.einsum("if,fg,ig->", rows, self.gram, exact)) / (size or 1.0)
            error = _size(scale * rows - exact, self.gram) / (total or 1.0)
            if best is None or error < best.error:
                best = ListRows(
                    unobserved_weight=weight,
                    regularization=regularization,
                    scale=float(f"{scale:.6g}"),
                    confidence=confidence,
                    error=float(f"{error:.6g}"),
                )
        assert best is not None
        return best


def _size(rows: Float64, gram: Float64) -> float:
    """Sum of the squared scores of all users for items with these rows, [n, F]."""
    return float(np.einsum("if,fg,ig->", rows, gram, rows))
