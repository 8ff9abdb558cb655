"""The fold-in of a product that gradient descent trained to rank: a ridge, chosen by held-out users.

Softmax has no closed form for a new user. The half-step of implicit ALS on the items' rows comes near to it,
with two strengths that training does not give (`ImplicitRidge.whitening`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import product

import msgspec
import numpy as np

from export.model.arrays import Float64
from export.model.dot import AVERAGE
from export.model.inputs import FoldInHistory
from export.model.row_solvers import ImplicitRidge
from export.model.side_by_side import PartColumns, SideBySide
from export.write.lists_of_held_out import best_items, mean_ndcg, some_users
from serve.bundle.manifest import ListRidge

UNOBSERVED_WEIGHTS = (0.3, 1.0, 3.0)
REGULARIZATIONS = (1.0, 10.0, 100.0, 1000.0)
AVERAGE_SHARES = (0.0, 0.5, 1.0)


def choose_list_ridges(ranking: SideBySide, histories: Sequence[FoldInHistory]) -> dict[str, ListRidge]:
    """The ridge of each part that has no closed form, by its kind.

    There is none where the average user is as good, or no held-out user can tell.
    """
    histories, found = some_users(histories, ranking.n_items), {}
    for number, part in enumerate(ranking.parts):
        if histories and part.solver is None and not part.predicts_ratings:
            ridge = _choose(ranking, number, histories)
            if ridge is not None:
                found[part.kind] = ridge
    return found


def with_list_ridges(ranking: SideBySide, ridges: Mapping[str, ListRidge]) -> SideBySide:
    """The parts with these ridges as their closed forms."""
    parts: list[PartColumns] = []
    for number, part in enumerate(ranking.parts):
        ridge = ridges.get(part.kind)
        if ridge is not None and part.solver is None and not part.predicts_ratings:
            part = replace(part, solver=_solver(ranking, number, ridge))
        parts.append(part)
    return replace(ranking, parts=tuple(parts))


def _solver(ranking: SideBySide, number: int, ridge: ListRidge) -> ImplicitRidge:
    columns, part = ranking.columns(number), ranking.parts[number]
    average = ranking.dot.rows64(AVERAGE)[0, columns] / part.factor
    items = ranking.dot.item_factors[:, columns]
    return ImplicitRidge.whitening(items, average, ridge, part.kind.replace("-", "_"))


def _choose(ranking: SideBySide, number: int, histories: Sequence[FoldInHistory]) -> ListRidge | None:
    """The strengths with the best lists of held-out users, judged by this part's scores alone."""
    columns, factor = ranking.columns(number), ranking.parts[number].factor
    users = ranking.dot.user_factors[:, columns].astype(np.float64) / factor
    items = ranking.dot.item_factors[:, columns].astype(np.float64)
    biases = 0.0 if ranking.dot.item_biases is None else ranking.dot.item_biases[:, 0] / factor

    def ndcg(rows: Float64) -> float:
        lists = [
            best_items(items @ row + biases, known.item_indices)
            for row, (known, _) in zip(rows, histories, strict=True)
        ]
        return mean_ndcg(lists, histories)

    average_row = ranking.dot.rows64(AVERAGE)[0, columns] / factor
    found, best = None, ndcg(np.tile(average_row, (len(histories), 1)))
    average = _digits(best)
    for weight, regularization in product(UNOBSERVED_WEIGHTS, REGULARIZATIONS):
        plain = ListRidge(
            unobserved_weight=weight,
            regularization=regularization,
            scale=1.0,
            average_share=0.0,
            held_out_ndcg=0.0,
            average_ndcg=average,
        )
        solver = _solver(ranking, number, plain)
        rows = np.stack([solver.row64(*known) for known, _ in histories])
        # As long as the rows of the training, so that biases and other parts weigh as much beside them.
        scale = _digits(_length(users[1:]) / (_length(rows) or 1.0))
        for share in AVERAGE_SHARES:
            if (value := ndcg(scale * rows + share * average_row)) > best:
                best = value
                found = msgspec.structs.replace(
                    plain, scale=scale, average_share=share, held_out_ndcg=_digits(value)
                )
    return found


def _length(rows: Float64) -> float:
    """Root mean square length of rows, float64 [n, F]."""
    return float(np.sqrt(np.square(rows).sum(axis=1).mean()))


def _digits(figure: float) -> float:
    """Rounded to six digits, because the last bit of float64 sums differs between machines."""
    return float(f"{figure:.6g}")
