"""Choosing the ridge of `fold_in.onnx`: its weight on held-out users, its steps by a solver's answer."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
import onnxruntime as ort

from export.errors import ParityError
from export.graphs.fold_in import fold_in_graph
from export.model import reference
from export.model.arrays import DotArrays
from export.model.reference import Float64, Int64
from serve.bundle.manifest import FoldIn

REGULARIZATIONS = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0)
STEPS = (16, 24, 32, 48, 64, 96, 128)
# Largest difference between the graph's factors and numpy.linalg.solve's in float64, relative to the user's
# largest factor (at least 1): float32 sums over a history of hundreds of ratings reach about 1e-6.
FACTOR_TOLERANCE = 1e-5
N_USERS = 200
N_MADE_UP = 20
# Without held-out ratings there is nothing to choose by.
DEFAULT_REGULARIZATION = 5.0


@dataclass(frozen=True, eq=False)
class History:
    """What one user is folded in from, and what the folded-in user is judged by."""

    item_indices: Int64
    """int64 [H], rated items"""
    ratings: npt.NDArray[np.float32]
    """float32 [H]"""
    held_out_indices: Int64
    """int64 [M], at least one; none where it is made up"""
    held_out_ratings: npt.NDArray[np.float32]
    """float32 [M]"""


def choose_fold_in(arrays: DotArrays, histories: list[History], ratings_range: tuple[float, float]) -> FoldIn:
    """The regularization with the least error on the held-out ratings, and the fewest steps that solve it.

    Every user is folded in as if new: from the history alone, the trained row of that user unused. Without
    histories, the steps are those that solve made-up ones, on the scale of `ratings_range`.

    Raises:
        ParityError: no number of steps agrees with the solver; the item table is too ill-conditioned.
    """
    best, best_rmse = DEFAULT_REGULARIZATION, None
    if histories:
        rmses = [_held_out_rmse(arrays, histories, candidate) for candidate in REGULARIZATIONS]
        best, best_rmse = REGULARIZATIONS[int(np.argmin(rmses))], min(rmses)
    return FoldIn(
        regularization=best,
        steps=enough_steps(
            arrays, histories or made_up_histories(len(arrays.item_factors) - 1, ratings_range), best
        ),
        held_out_rmse=best_rmse,
        n_held_out_users=len(histories),
    )


def enough_steps(
    arrays: DotArrays, histories: list[History], regularization: float, fewest: int = STEPS[0]
) -> int:
    """The fewest steps, from `fewest` on, with which the graph agrees with the solver on these histories.

    Raises:
        ParityError: no number of steps does; the item table is too ill-conditioned.
    """
    for steps in (fewest, *(more for more in STEPS if more > fewest)):
        if max_factor_error(arrays, histories, regularization, steps) <= FACTOR_TOLERANCE:
            return steps
    raise ParityError(
        f"{STEPS[-1]} conjugate-gradient steps do not reach {FACTOR_TOLERANCE} at regularization "
        f"{regularization}: the item factors are too ill-conditioned for fold-in in float32. Train with more "
        f"weight decay."
    )


def max_factor_error(arrays: DotArrays, histories: list[History], regularization: float, steps: int) -> float:
    """Largest relative difference between the graph on onnxruntime's CPU and the float64 solver."""
    model = ir.to_proto(fold_in_graph(arrays, 1, regularization, steps)).SerializeToString()
    session = ort.InferenceSession(model, providers=["CPUExecutionProvider"])
    names = ["user_factors"] + (["user_biases"] if arrays.user_biases is not None else [])
    worst = 0.0
    for history in histories:
        feeds = {"item_indices": history.item_indices[None], "ratings": history.ratings[None]}
        found = np.concatenate(session.run(names, feeds), axis=1)[0]
        exact = reference.fold_in(arrays, history.item_indices, history.ratings, regularization)
        worst = max(worst, float(np.abs(found - exact).max() / max(1.0, np.abs(exact).max())))
    return worst


def _held_out_rmse(arrays: DotArrays, histories: list[History], regularization: float) -> float:
    errors: list[Float64] = []
    n_factors = arrays.item_factors.shape[1]
    for history in histories:
        folded = reference.fold_in(arrays, history.item_indices, history.ratings, regularization)
        bias = folded[None, n_factors:] if arrays.user_biases is not None else None
        judged = arrays.of_items(history.held_out_indices)
        logits = reference.dot_logits(judged, folded[None, :n_factors], bias)[0]
        errors.append(reference.to_range(logits, arrays.y_range) - history.held_out_ratings)
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
