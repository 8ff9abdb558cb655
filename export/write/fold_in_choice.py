"""Choosing the ridge of `fold_in.onnx`: its weight on held-out users, its steps by a solver's answer."""

from __future__ import annotations

import msgspec
import numpy as np
import numpy.typing as npt
import onnx_ir as ir
import onnxruntime as ort

from export.errors import GraphError
from export.graphs.fold_in import FACTOR_TOLERANCE, fold_in_graph, row_error
from export.model.arrays import Float64, FoldInArrays
from export.model.inputs import History
from serve.bundle.manifest import FoldIn

REGULARIZATIONS = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0)
STEPS = (8, 12, 16, 24, 32, 48, 64)
N_USERS = 200
N_MADE_UP = 20
# Without held-out ratings there is nothing to choose by.
DEFAULT_REGULARIZATION = 5.0


def choose_fold_in(
    arrays: FoldInArrays, histories: list[History], ratings_range: tuple[float, float]
) -> FoldIn:
    """The regularization with the least error on the held-out ratings, and the fewest steps that solve it.

    Every user is folded in as if new: from the history alone, the trained row of that user unused. Without
    histories, the steps are those that solve made-up ones, of ratings in `ratings_range`.

    Raises:
        GraphError: no number of steps agrees with the solver.
    """
    best, best_rmse = DEFAULT_REGULARIZATION, None
    if histories:
        rmses = [_held_out_rmse(arrays, histories, candidate) for candidate in REGULARIZATIONS]
        best, best_rmse = REGULARIZATIONS[int(np.argmin(rmses))], min(rmses)
    settings = FoldIn(
        regularization=best,
        steps=STEPS[0],
        n_items=arrays.n_items,
        held_out_rmse=best_rmse,
        n_held_out_users=len(histories),
    )
    return with_enough_steps(arrays, histories or made_up_histories(arrays.n_items, ratings_range), settings)


def with_enough_steps(arrays: FoldInArrays, histories: list[History], settings: FoldIn) -> FoldIn:
    """With the fewest steps, from those there are on, that agree with the solver on these histories.

    Raises:
        GraphError: no number of steps does.
    """
    for steps in (settings.steps, *(more for more in STEPS if more > settings.steps)):
        settings = msgspec.structs.replace(settings, steps=steps)
        if (error := max_row_error(arrays, histories, settings)) <= FACTOR_TOLERANCE:
            return settings
    raise GraphError(
        f"{STEPS[-1]} conjugate-gradient steps in float32 are off by {error:.1g} of a user's factors, more "
        f"than {FACTOR_TOLERANCE}, at regularization {settings.regularization:g}"
    )


def max_row_error(arrays: FoldInArrays, histories: list[History], settings: FoldIn) -> float:
    """Largest relative difference between the graph on onnxruntime's CPU and the float64 solver."""
    model = ir.to_proto(fold_in_graph(arrays, 1, settings)).SerializeToString()
    session = ort.InferenceSession(model, providers=["CPUExecutionProvider"])
    errors = []
    for history in histories:
        feeds = {"item_indices": history.item_indices[None], "ratings": history.ratings[None]}
        found = np.concatenate(session.run(list(arrays.row_parts()), feeds), axis=1)[0]
        exact = arrays.fold_in64(history.item_indices, history.ratings, settings.regularization)
        errors.append(row_error(arrays, found, exact))
    return max(errors)


def _held_out_rmse(arrays: FoldInArrays, histories: list[History], regularization: float) -> float:
    errors: list[Float64] = []
    for history in histories:
        row = arrays.fold_in64(history.item_indices, history.ratings, regularization)
        scores = arrays.of_items(history.held_out_indices).row_scores64(row[None])[0]
        errors.append(scores - history.held_out_ratings)
    return float(np.sqrt(np.mean(np.concatenate(errors) ** 2)))


def made_up_histories(n_items: int, ratings_range: tuple[float, float]) -> list[History]:
    """Random ratings of random items, always the same: for a comparison where no user can be judged."""
    rng = np.random.default_rng(3)
    nothing = np.array([], np.int64), np.array([], np.float32)
    histories = []
    for n in np.minimum(np.resize([1, 2, 5, 10, 20], N_MADE_UP), n_items):
        items = 1 + rng.choice(n_items, n, replace=False)
        histories.append(History(items, rng.uniform(*ratings_range, n).astype(np.float32), *nothing))
    return histories


def sample_histories(
    user_index: npt.NDArray[np.integer],
    item_index: npt.NDArray[np.integer],
    ratings: npt.NDArray[np.float32],
    held_out: npt.NDArray[np.bool_],
    rng: np.random.Generator,
) -> list[History]:
    """Up to 200 users with ratings on both sides of the split.

    A user whose ratings are all held out (a split by user) gives one half as history: a truly new user.

    Args:
        user_index: int [n].
        item_index: int [n].
        ratings: float32 [n].
        held_out: bool [n].
        rng: draws the users, and the halves.
    """
    candidates = rng.permutation(np.unique(user_index[held_out]))[:N_USERS]
    order = np.argsort(user_index, kind="stable")
    starts = np.searchsorted(user_index[order], candidates)
    ends = np.searchsorted(user_index[order], candidates, side="right")
    histories = []
    for start, end in zip(starts, ends, strict=True):
        rows = order[start:end]
        outside = held_out[rows]
        if outside.all():
            outside = rng.permutation(len(rows)) < len(rows) // 2
        if outside.all() or not outside.any():
            continue
        history, judged = rows[~outside], rows[outside]
        histories.append(
            History(
                item_index[history].astype(np.int64),
                ratings[history].astype(np.float32),
                item_index[judged].astype(np.int64),
                ratings[judged].astype(np.float32),
            )
        )
    return histories
