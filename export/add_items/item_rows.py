"""Rows of new items by ridge regression on their ratings: fold-in with users and items exchanged.

With the users fixed, a dot model is linear in the item. Before its ratings are known, a new item's row is
taken for one more draw from the normal distribution of the known items' rows: the ridge's penalty is their
inverse covariance. A flat penalty is far off where columns differ in size, as those of an SVD do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple, Self

import numpy as np

from export.model.arrays import Float32, Float64, Int64
from export.model.dot import AVERAGE, DotArrays
from export.model.reference import to_range

REGULARIZATIONS = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0)
# With fewer left-out ratings the choice would be noise.
MIN_LEFT_OUT = 20
# Where there is nothing to choose by: the noise of a rating is as large as the spread of the items' scores.
DEFAULT_REGULARIZATION = 1.0
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


class _Ridge(NamedTuple):
    """The ridge regression of items' rows."""

    mirrored: DotArrays
    """Users and items exchanged."""
    root: Float64
    """L [row, row]: a row is the average row + L z, and the penalty is the regularization times |z|^2.

    L L' is the known items' covariance, scaled so that users' logits for items have the mean variance 1.
    """

    @classmethod
    def of(cls, arrays: DotArrays) -> Self:
        mirrored = arrays.mirrored()
        known = mirrored.rows64(np.arange(1, arrays.n_items + 1)) - mirrored.rows64(AVERAGE)
        covariance = known.T @ known / len(known)
        width = len(covariance)
        # As if one more item lay as far out in every direction: few items leave some directions empty.
        covariance += np.trace(covariance) / width / len(known) * np.eye(width)
        users = arrays.user_factors[1:].astype(np.float64)
        if arrays.item_biases is not None:
            users = np.column_stack([users, np.ones(len(users))])
        variance = float(np.sum(users.T @ users * covariance)) / len(users)
        if not variance > 0:  # all items are alike
            return cls(mirrored, np.eye(width))
        root = np.linalg.cholesky(covariance / variance).astype(np.float64)
        return cls(mirrored, root)

    def row(self, item: Rated, regularization: float) -> Float64:
        """The row of an item, the bias last."""
        factors, target, _ = self.mirrored.ridge_problem(*item)
        factors = factors @ self.root
        system = factors.T @ factors + regularization * np.eye(len(self.root))
        difference = self.root @ np.linalg.solve(system, factors.T @ target)
        row: Float64 = self.mirrored.rows64(AVERAGE)[0] + difference
        return row

    def left_out_errors(self, item: Rated) -> Float64:
        """See the function of that name."""
        factors, target, offset = self.mirrored.ridge_problem(*item)
        left, singular, _ = np.linalg.svd(factors @ self.root, full_matrices=False)
        errors = []
        for regularization in REGULARIZATIONS:
            shrunk = left * (singular**2 / (singular**2 + regularization))
            residual = (target - shrunk @ (left.T @ target)) / (1 - (shrunk * left).sum(axis=1))
            errors.append(to_range(offset + target - residual, self.mirrored.y_range) - item.ratings)
        return np.stack(errors)


def with_items(arrays: DotArrays, items: Sequence[Rated], regularization: float) -> DotArrays:
    """The model with a row for each new item at the end of its item tables; its other rows don't change.

    `regularization` is the variance of a rating's noise relative to that of the known items' scores (both of
    logits, where the scores are bounded).
    """
    ridge, n_factors = _Ridge.of(arrays), arrays.item_factors.shape[1]
    rows = np.stack([ridge.row(item, regularization) for item in items]).astype(np.float32)
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
    ridge = _Ridge.of(arrays)
    errors = np.concatenate([ridge.left_out_errors(item) for item in judged], axis=1)
    rmses = np.sqrt((errors**2).mean(axis=1))
    best = int(rmses.argmin())
    return Choice(REGULARIZATIONS[best], float(rmses[best]))


def left_out_errors(arrays: DotArrays, item: Rated) -> Float64:
    """Errors (ratings) of each rating, predicted from the others: float64 [REGULARIZATIONS, n].

    The error of a left-out target is the error of the fitted one over 1 - H_ii, with H the matrix that maps
    targets to fitted values (Allen's PRESS, 1974). One singular value decomposition gives H for every
    regularization.
    """
    return _Ridge.of(arrays).left_out_errors(item)
