"""How a new user's list is ranked where parts that rank order the lists: chosen by held-out users."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec
import numpy as np

from export.graphs.fold_in import list_fold_in_graph, new_rows, row_error
from export.model.arrays import Float64
from export.model.inputs import ExportInputs, FoldInHistory
from export.model.side_by_side import PartColumns
from export.verify.runners import open_in_memory
from export.write.fold_in_choice import GIVEN, STEPS, fewest_steps, shortened
from export.write.lists_of_held_out import best_items, mean_ndcg, some_users
from serve.bundle.manifest import ListFoldIn, ListRidge

PRIOR_RATINGS = (0.0, 0.5, 1.0, 2.0, 5.0, 10.0)
POPULARITY = (0.0, 0.5, 1.0, 2.0, 4.0)
# Where no held-out rating can choose.
DEFAULT_PRIOR = (2.0, 1.0)


def choose_list_fold_in(
    inputs: ExportInputs, histories: Sequence[FoldInHistory], ridges: Mapping[str, ListRidge] = {}
) -> ListFoldIn:
    """The prior with the best lists of held-out users who gave 1, 3, 5, 10, 20 and all of their ratings.

    Args:
        inputs: of an export whose lists are ordered by parts that rank.
        histories: held-out users; none: the prior is the default.
        ridges: of the parts that have such an approximation.

    Raises:
        GraphError: no number of steps in float32 agrees with the float64 solver.
    """
    ranking = inputs.ranking
    assert ranking is not None
    settings = ListFoldIn(
        methods={part.kind: _method(part, inputs) for part in ranking.parts},
        steps=STEPS[0],
        n_items=ranking.n_items,
        prior_ratings=DEFAULT_PRIOR[0],
        popularity=DEFAULT_PRIOR[1],
        held_out_ndcg={},
        n_held_out_users=len(histories),
        ridges=dict(ridges),
    )
    if histories:
        histories = some_users(histories, ranking.n_items)
        prior_ratings, popularity, ndcgs = _best_prior(inputs, histories, settings)
        settings = msgspec.structs.replace(
            settings, prior_ratings=prior_ratings, popularity=popularity, held_out_ndcg=ndcgs
        )
    return with_enough_list_steps(inputs, settings)


def _method(part: PartColumns, inputs: ExportInputs) -> str:
    if part.solver is not None:
        return part.solver.method
    return "ridge" if part.predicts_ratings and inputs.fold_in is not None else "average user"


def with_enough_list_steps(inputs: ExportInputs, settings: ListFoldIn) -> ListFoldIn:
    """The settings with the fewest steps, at least as many as they have, that agree with float64.

    Raises:
        GraphError: no number of steps does.
    """
    return fewest_steps(settings, lambda some: _max_row_error(inputs.with_list_fold_in(some)))


def _max_row_error(inputs: ExportInputs) -> float:
    """Largest relative difference between the graph on onnxruntime's CPU and float64."""
    assert inputs.ranking is not None
    session = open_in_memory(list_fold_in_graph(inputs))
    errors = []
    for (items, ratings), _ in inputs.sample.histories:
        (found,) = session.run(["user_factors"], {"item_indices": items[None], "ratings": ratings[None]})
        errors.append(row_error(inputs.ranking, found[0], new_rows(inputs, items, ratings).lists))
    return float(np.max(errors))  # unlike max(), NaN if one is


def _best_prior(
    inputs: ExportInputs, histories: Sequence[FoldInHistory], settings: ListFoldIn
) -> tuple[float, float, dict[str, float]]:
    """The prior's ratings, the weight of popularity, and nDCG by the number of ratings."""
    ranking = inputs.ranking
    assert ranking is not None
    items = ranking.dot.item_factors.astype(np.float64)
    biases = 0.0 if ranking.dot.item_biases is None else ranking.dot.item_biases[:, 0].astype(np.float64)
    average = items @ ranking.prior64(msgspec.structs.replace(settings, popularity=0.0))
    popularity = items[:, -1]
    priors = [(prior, weight) for prior in PRIOR_RATINGS for weight in POPULARITY if prior or not weight]
    ndcgs: dict[str, Float64] = {}
    for n in (*GIVEN, None):
        given, own = [], []
        for some, _ in shortened(histories, n):
            rating_row = new_rows(inputs.with_list_fold_in(settings), *some).ratings
            given.append(some)
            own.append(items @ ranking.own_row64(*some, rating_row) + biases)
        lists = []
        for prior, weight in priors:
            shares = [prior / (prior + len(some.item_indices)) for some in given]
            prior_scores = average + weight * popularity
            lists.append(
                [
                    best_items(scores + share * prior_scores, known.item_indices)
                    for scores, share, (known, _) in zip(own, shares, histories, strict=True)
                ]
            )
        lists.append([best_items(popularity, known.item_indices) for known, _ in histories])
        ndcgs["all" if n is None else str(n)] = np.array([mean_ndcg(one, histories) for one in lists])
    totals = np.mean([figures[:-1] for figures in ndcgs.values()], axis=0)
    best = int(totals.argmax())
    found = {name: float(f"{figures[best]:.6g}") for name, figures in ndcgs.items()}
    return *priors[best], found | {"popularity": float(f"{ndcgs['all'][-1]:.6g}")}
