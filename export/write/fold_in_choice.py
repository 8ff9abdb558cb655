"""The settings of `fold_in.onnx`: the ridge by held-out ratings, the steps by the float64 solver."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import product
from typing import TypeVar

import msgspec
import numpy as np
import numpy.typing as npt

from export.errors import GraphError
from export.graphs.fold_in import FACTOR_TOLERANCE, fold_in_rows_graph, row_error
from export.model.arrays import Float32, Float64, RidgeArrays
from export.model.inputs import FoldInHistory, Ratings
from export.model.mlp import MlpArrays
from export.verify.runners import open_in_memory
from serve.bundle.manifest import FoldIn, ListFoldIn

Settings = TypeVar("Settings", FoldIn, ListFoldIn)

REGULARIZATIONS = (0.1, 0.2, 0.5, 1.0, 2.0, 3.0, 5.0, 10.0, 20.0, 50.0)
STEPS = (8, 12, 16, 24, 32, 48, 64)
N_USERS = 200
# Numbers of ratings that a new user gives.
GIVEN = (1, 3, 5, 10, 20)
# Of each user's ratings, where none were held out of the training.
HIDDEN = 0.2
# Numbers of ratings in made-up histories.
MADE_UP = 4 * [1, 2, 5, 10, 20]
# Of the linear map that stands in for a closed form.
PRIOR_RATINGS = (1.0, 5.0, 20.0)
MAP_REGULARIZATIONS = (0.01, 0.1, 1.0)
# By how much of its mean squared error the average user must be beaten: the best of nine maps is lucky, too.
MARGIN = 0.02
# Where there are no held-out ratings to choose by.
DEFAULT_REGULARIZATION = 5.0


def choose_fold_in(
    arrays: RidgeArrays, histories: Sequence[FoldInHistory], ratings_range: tuple[float, float]
) -> FoldIn:
    """The regularization with the least error on the held-out ratings, and the fewest steps that solve it.

    Every user is folded in as if new, from 1, 3, 5, 10, 20 ratings of the history and from all of it; the
    error is the mean of their squared errors. Without histories, the regularization is the default, and the
    steps are those that solve made-up ones, of ratings in `ratings_range`.

    Raises:
        GraphError: no number of steps agrees with the solver.
    """
    settings = FoldIn(
        regularization=DEFAULT_REGULARIZATION,
        steps=STEPS[0],
        n_items=arrays.n_items,
        held_out_rmse=None,
        n_held_out_users=len(histories),
    )
    if histories:
        candidates = [msgspec.structs.replace(settings, regularization=value) for value in REGULARIZATIONS]
        lengths = [shortened(histories, n) for n in (*GIVEN, None)]
        errors = np.stack([_held_out_errors(arrays, some, candidates) for some in lengths])
        best = int(errors.mean(axis=0).argmin())
        settings = msgspec.structs.replace(candidates[best], held_out_rmse=float(np.sqrt(errors[-1, best])))
    return with_enough_steps(arrays, histories or made_up_histories(arrays.n_items, ratings_range), settings)


def choose_linear_map(
    arrays: MlpArrays,
    train: tuple[npt.NDArray[np.integer], npt.NDArray[np.integer], Float32],
    histories: Sequence[FoldInHistory],
) -> tuple[MlpArrays, FoldIn] | None:
    """The approximation of new users of an MLP with the least error on their held-out ratings.

    Args:
        arrays: the model.
        train: ratings of the training: user index, item index, rating, [n] each.
        histories: users who judge.

    Returns:
        The arrays that have it, and its settings; None: the average user is nearer to the held-out ratings,
        or there are none.
    """
    if not histories:
        return None
    lengths = [shortened(histories, n) for n in (*GIVEN, None)]
    average = arrays.scores64(np.array([0]))[0]
    rest = [average[held_out.item_indices] - held_out.ratings for _, held_out in histories]
    lowest, best = (1 - MARGIN) * float(np.mean(np.concatenate(rest) ** 2)), None
    for prior, regularization in product(PRIOR_RATINGS, MAP_REGULARIZATIONS):
        settings = FoldIn(
            method="linear map",
            prior_ratings=prior,
            regularization=regularization,
            steps=0,
            n_items=arrays.n_items,
            held_out_rmse=None,
            n_held_out_users=len(histories),
        )
        mapped = arrays.with_linear_map(*train, settings)
        errors = [_held_out_errors(mapped, some, [settings])[0] for some in lengths]
        if np.mean(errors) < lowest:
            rmse = float(np.sqrt(errors[-1]))
            lowest = float(np.mean(errors))
            best = mapped, msgspec.structs.replace(settings, held_out_rmse=rmse)
    return best


def with_enough_steps(arrays: RidgeArrays, histories: Sequence[FoldInHistory], settings: FoldIn) -> FoldIn:
    """The settings with the fewest steps, at least as many as they have, that agree with the solver.

    Raises:
        GraphError: no number of steps does.
    """
    return fewest_steps(settings, lambda some: max_row_error(arrays, histories, some))


def fewest_steps(settings: Settings, error_of: Callable[[Settings], float]) -> Settings:
    """The settings with the fewest steps, at least as many as they have, whose error is small enough.

    Args:
        settings: what to begin with.
        error_of: the largest error of a new user's row in float32, relative to the size of such rows.

    Raises:
        GraphError: no number of steps suffices.
    """
    for steps in (settings.steps, *(more for more in STEPS if more > settings.steps)):
        settings = msgspec.structs.replace(settings, steps=steps)
        if (error := error_of(settings)) <= FACTOR_TOLERANCE:
            return settings
    raise GraphError(
        f"{STEPS[-1]} conjugate-gradient steps in float32 are off by {error:.1g} of a user's factors, more "
        f"than {FACTOR_TOLERANCE}"
    )


def max_row_error(arrays: RidgeArrays, histories: Sequence[FoldInHistory], settings: FoldIn) -> float:
    """Largest relative difference between the graph on onnxruntime's CPU and the float64 solver."""
    session = open_in_memory(fold_in_rows_graph(arrays, settings))
    ridge = arrays.ridge(settings)
    errors = []
    for (items, ratings), _ in histories:
        feeds = {"item_indices": items[None], "ratings": ratings[None]}
        found = np.concatenate(session.run(list(arrays.row_parts()), feeds), axis=1)[0]
        errors.append(row_error(arrays, found, arrays.fold_in64(items, ratings, ridge)))
    return float(np.max(errors))  # unlike max(), NaN if one is


def _held_out_errors(
    arrays: RidgeArrays, histories: Sequence[FoldInHistory], candidates: Sequence[FoldIn]
) -> Float64:
    """Mean squared errors of the candidates, float64 [candidates]."""
    ridges, errors = np.stack([arrays.ridge(one) for one in candidates]), []
    for known, held_out in histories:
        rows = arrays.fold_in64(*known, ridges)
        errors.append(arrays.of_items(held_out.item_indices).row_scores64(rows) - held_out.ratings)
    found: Float64 = np.mean(np.concatenate(errors, axis=1) ** 2, axis=1)
    return found


def shortened(histories: Sequence[FoldInHistory], n: int | None) -> list[FoldInHistory]:
    """The same users with `n` of their known ratings at most, a random choice; None: all of them."""
    rng = np.random.default_rng(2)
    short = []
    for known, held_out in histories:
        rows = rng.permutation(len(known.item_indices))[:n]
        short.append(FoldInHistory(Ratings(known.item_indices[rows], known.ratings[rows]), held_out))
    return short


def made_up_histories(n_items: int, ratings_range: tuple[float, float]) -> list[FoldInHistory]:
    """Random ratings of random items, the same each time, for data in which no user can be judged."""
    rng = np.random.default_rng(3)
    nothing = Ratings(np.array([], np.int64), np.array([], np.float32))
    histories = []
    for n in np.minimum(MADE_UP, n_items):
        items = 1 + rng.choice(n_items, n, replace=False)
        histories.append(
            FoldInHistory(Ratings(items, rng.uniform(*ratings_range, n).astype(np.float32)), nothing)
        )
    return histories


def sample_histories(
    user_index: npt.NDArray[np.integer],
    item_index: npt.NDArray[np.integer],
    ratings: npt.NDArray[np.float32],
    held_out: npt.NDArray[np.bool_],
    rng: np.random.Generator,
) -> list[FoldInHistory]:
    """Up to 200 users with ratings on both sides of the split.

    A user whose ratings are all held out (a split by user) gives one half as history: a truly new user. Where
    nothing is held out, users give four fifths; the tables know the rest, so it only chooses settings. All
    arrays are [n]; `rng` draws the users and their shares.
    """
    candidates = rng.permutation(np.unique(user_index[held_out] if held_out.any() else user_index))[:N_USERS]
    order = np.argsort(user_index, kind="stable")
    starts = np.searchsorted(user_index[order], candidates)
    ends = np.searchsorted(user_index[order], candidates, side="right")
    histories = []
    for start, end in zip(starts, ends, strict=True):
        rows = order[start:end]
        outside = held_out[rows]
        if outside.all():
            outside = rng.permutation(len(rows)) < len(rows) // 2
        elif not held_out.any():
            outside = rng.permutation(len(rows)) < HIDDEN * len(rows)
        if outside.any() and not outside.all():
            sides = (
                Ratings(item_index[side].astype(np.int64), ratings[side].astype(np.float32))
                for side in (rows[~outside], rows[outside])
            )
            histories.append(FoldInHistory(*sides))
    return histories
