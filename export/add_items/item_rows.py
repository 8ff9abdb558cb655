"""Rows of new items by ridge regression on their ratings: fold-in with users and items exchanged.

With the users fixed, a dot model is linear in the item. An item's row is the solution of fold-in's ridge
problem for the mirrored model: centred on the average item, row 0, solved in float64.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from export.model.arrays import Float32, Float64, Int64
from export.model.dot import DotArrays
from export.model.reference import to_range
from export.write.fold_in_choice import DEFAULT_REGULARIZATION, REGULARIZATIONS

# With fewer left-out ratings the choice would be noise.
MIN_LEFT_OUT = 20
# More items hardly change the choice.
MAX_JUDGED = 1000


class Rated(NamedTuple):
    """The ratings of one new item by users of the model."""

    user_index: Int64
    """int64 [n], n at least 1, each once"""
    ratings: Float32
    """float32 [n]"""


class Choice(NamedTuple):
    """The ridge of new items."""

    regularization: float
    left_out_rmse: float | None
    """RMSE (ratings) of each rating, predicted from the others of its item; None with too few ratings."""


def with_items(arrays: DotArrays, items: Sequence[Rated], regularization: float) -> DotArrays:
    """The model with a row for each new item at the end of its item tables; its other rows don't change.

    `regularization` is the weight of the squared distance from the average item.
    """
    mirrored, n_factors = arrays.mirrored(), arrays.item_factors.shape[1]
    ridge = mirrored.ridge_of(regularization)
    rows = np.stack([mirrored.fold_in64(*item, ridge) for item in items]).astype(np.float32)
    factors = np.concatenate([arrays.item_factors, rows[:, :n_factors]])
    biases = None
    if arrays.item_biases is not None:
        biases = np.concatenate([arrays.item_biases, rows[:, n_factors:]])
    return replace(arrays, item_factors=factors, item_biases=biases)


def choose_regularization(arrays: DotArrays, items: Sequence[Rated]) -> Choice:
    """The regularization with the least error when each rating is predicted from the others of its item.

    The users' rows were trained without these ratings, so the error is one on unseen data. Items with one
    rating don't count: the average item predicts it, whatever the ridge.
    """
    judged = [item for item in items if len(item.user_index) > 1]
    if len(judged) > MAX_JUDGED:
        places = np.random.default_rng(0).choice(len(judged), MAX_JUDGED, replace=False)
        judged = [judged[place] for place in places]
    if sum(len(item.user_index) for item in judged) < MIN_LEFT_OUT:
        return Choice(DEFAULT_REGULARIZATION, None)
    errors = np.concatenate([left_out_errors(arrays, item) for item in judged], axis=1)
    rmses = np.sqrt((errors**2).mean(axis=1))
    best = int(rmses.argmin())
    return Choice(REGULARIZATIONS[best], float(rmses[best]))


def left_out_errors(arrays: DotArrays, item: Rated) -> Float64:
    """Errors (ratings) of each rating, predicted from the others: float64 [REGULARIZATIONS, n].

    The error of a left-out target is the error of the fitted one over 1 - H_ii, with H the matrix that maps
    targets to fitted values (Allen's PRESS, 1974). One singular value decomposition gives H for every
    regularization.
    """
    mirrored = arrays.mirrored()
    factors, target, offset = mirrored.ridge_problem(*item)
    # Divided by the roots of the ridge's weights, the problem has the penalty of a plain ridge.
    left, singular, _ = np.linalg.svd(factors / np.sqrt(mirrored.ridge_of(1.0)), full_matrices=False)
    errors = []
    for regularization in REGULARIZATIONS:
        shrunk = left * (singular**2 / (singular**2 + regularization))
        residual = (target - shrunk @ (left.T @ target)) / (1 - (shrunk * left).sum(axis=1))
        errors.append(to_range(offset + target - residual, arrays.y_range) - item.ratings)
    return np.stack(errors)
