"""Rows for items that came after training, from the ratings that they have: the mirror image of fold-in.

With the users fixed, a dot model is linear in the item. So an item's row is the solution of fold-in's ridge
problem with users and items exchanged: centred on the average item, row 0, solved in float64.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from export.model.arrays import Float32, Float64, Int64
from export.model.dot import DotArrays
from export.model.reference import to_range
from export.write.fold_in_choice import DEFAULT_REGULARIZATION, REGULARIZATIONS

# With fewer left-out ratings the choice would be noise.
MIN_LEFT_OUT = 20
# A sample this large settles the choice.
MAX_JUDGED = 1000


@dataclass(frozen=True, eq=False)
class Rated:
    """The ratings of one new item by users of the model."""

    user_index: Int64
    """int64 [n], n at least 1, each once"""
    ratings: Float32
    """float32 [n]"""


class Choice(NamedTuple):
    """The ridge of new items."""

    regularization: float
    left_out_rmse: float | None
    """RMSE (ratings) of each rating, predicted from the others of its item; None where there are too few."""


def mirrored(arrays: DotArrays) -> DotArrays:
    """The model with users and items exchanged."""
    return DotArrays(
        arrays.item_factors, arrays.user_factors, arrays.item_biases, arrays.user_biases, arrays.y_range
    )


def with_items(arrays: DotArrays, items: Sequence[Rated], regularization: float) -> DotArrays:
    """The model with a row for each new item at the end of its item tables; all else is as it was.

    Args:
        arrays: the model.
        items: what is known of each new item.
        regularization: weight of the squared distance from the average item.
    """
    exchanged, n_factors = mirrored(arrays), arrays.item_factors.shape[1]
    rows = np.stack(
        [exchanged.fold_in64(item.user_index, item.ratings, regularization) for item in items]
    ).astype(np.float32)
    biases = None
    if arrays.item_biases is not None:
        biases = np.concatenate([arrays.item_biases, rows[:, n_factors:]])
    factors = np.concatenate([arrays.item_factors, rows[:, :n_factors]])
    return replace(arrays, item_factors=factors, item_biases=biases)


def choose_regularization(arrays: DotArrays, items: Sequence[Rated]) -> Choice:
    """The regularization with the least error when each rating is predicted from the others of its item.

    The users' rows have never seen these ratings, so nothing leaks into the judgement. Items with one rating
    say nothing (the average item predicts it, whatever the ridge).
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

    Not solved n times: with H the matrix that maps targets to fitted values, the error of a left-out target
    is the fitted one's over 1 - H_ii (Allen's PRESS, 1974). One singular value decomposition gives H for
    every regularization.
    """
    factors, target, offset = mirrored(arrays).ridge_problem(item.user_index, item.ratings)
    left, singular, _ = np.linalg.svd(factors, full_matrices=False)
    errors = []
    for regularization in REGULARIZATIONS:
        shrunk = left * (singular**2 / (singular**2 + regularization))
        residual = (target - shrunk @ (left.T @ target)) / (1 - (shrunk * left).sum(axis=1))
        logits = offset + target - residual
        errors.append(to_range(logits, arrays.y_range) - item.ratings)
    return np.stack(errors)
