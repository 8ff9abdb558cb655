"""Rows of new items by ridge regression on their ratings: fold-in with users and items exchanged.

With the users fixed, a dot model is linear in the item. Before its ratings are known, a new item's row is
taken for one more draw from the normal distribution of the known items' rows: their mean depends on features
(genres, years), as far as known rows do, and the ridge's penalty is their inverse covariance. A flat penalty
is far off where columns differ in size, as those of an SVD do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, Self

import numpy as np

from export.model.arrays import Float32, Float64, Int64
from export.model.dot import AVERAGE, DotArrays
from export.model.score_range import to_range

REGULARIZATIONS = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0)
# With fewer left-out ratings the choice would be noise.
MIN_LEFT_OUT = 20
# Where there is nothing to choose by: the noise of a rating is as large as the spread of the items' scores.
DEFAULT_REGULARIZATION = 1.0
# More items hardly change the choice.
MAX_JUDGED = 1000
# Items that a feature must have before half of what they have in common is believed.
FEATURE_ITEMS = 10.0


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


@dataclass(frozen=True, eq=False)
class ItemPrior:
    """The normal distribution of new items' rows."""

    arrays: DotArrays
    means: Float64
    """Of each new item's row less the average item's, [n, row]; the bias last"""
    root: Float64
    """L [row, row]: a row is the mean + L z, and the penalty is the regularization times |z|^2.

    L L' is the known items' covariance around their means, scaled so that the users' logits for items have
    the mean variance 1.
    """

    @classmethod
    def of(cls, arrays: DotArrays, n_new: int, features: Float32 | None = None) -> Self:
        """The prior by the known items.

        Args:
            arrays: the model.
            n_new: number of new items.
            features: binary, of the known items and then the new ones, [n_items + n_new, A]; None: unknown.
        """
        mirrored, n_items = arrays.mirrored(), arrays.n_items
        known = mirrored.rows64(np.arange(1, n_items + 1)) - mirrored.rows64(AVERAGE)
        width = known.shape[1]
        means = np.zeros((n_new, width))
        if features is not None and features.shape[1]:
            centred = features - features[:n_items].mean(axis=0, dtype=np.float64)
            of_known = centred[:n_items]
            gram = of_known.T @ of_known + FEATURE_ITEMS * np.eye(features.shape[1])
            weights = np.linalg.solve(gram, of_known.T @ known)
            known, means = known - of_known @ weights, centred[n_items:] @ weights
        covariance = known.T @ known / n_items
        # As if one more item lay as far out in every direction: few items leave some directions empty.
        covariance += np.trace(covariance) / width / n_items * np.eye(width)
        users = arrays.user_factors[1:].astype(np.float64)
        if arrays.item_biases is not None:
            users = np.column_stack([users, np.ones(len(users))])
        variance = float(np.sum(users.T @ users * covariance)) / len(users)
        # 0: all items are alike
        root = np.linalg.cholesky(covariance / variance) if variance > 0 else np.eye(width)
        return cls(arrays, means, root.astype(np.float64))

    def problem(self, number: int, item: Rated) -> tuple[Float64, Float64, Float64]:
        """The least-squares problem of z: factors [n, row], target [n]; and the logits at z = 0, [n]."""
        factors, target, average = self.arrays.mirrored().ridge_problem(*item)
        expected = factors @ self.means[number]
        return factors @ self.root, target - expected, average + expected

    def row(self, number: int, item: Rated, regularization: float) -> Float64:
        """The row of an item, the bias last; `number` is its place among the new items."""
        factors, target, _ = self.problem(number, item)
        system = factors.T @ factors + regularization * np.eye(len(self.root))
        average = self.arrays.mirrored().rows64(AVERAGE)[0]
        row: Float64 = average + self.means[number] + self.root @ np.linalg.solve(system, factors.T @ target)
        return row

    def left_out_errors(self, number: int, item: Rated) -> Float64:
        """Errors (ratings) of each rating, predicted from the others: float64 [REGULARIZATIONS, n].

        The error of a left-out target is the error of the fitted one over 1 - H_ii, with H the matrix that
        maps targets to fitted values (Allen's PRESS, 1974). One singular value decomposition gives H for
        every regularization.
        """
        factors, target, offset = self.problem(number, item)
        left, singular, _ = np.linalg.svd(factors, full_matrices=False)
        errors = []
        for regularization in REGULARIZATIONS:
            shrunk = left * (singular**2 / (singular**2 + regularization))
            residual = (target - shrunk @ (left.T @ target)) / (1 - (shrunk * left).sum(axis=1))
            errors.append(to_range(offset + target - residual, self.arrays.y_range) - item.ratings)
        return np.stack(errors)


def with_items(prior: ItemPrior, items: Sequence[Rated], regularization: float) -> DotArrays:
    """The model with a row for each new item at the end of its item tables; its other rows don't change.

    `regularization` is the variance of a rating's noise relative to that of the known items' scores (both of
    logits, where the scores are bounded).
    """
    arrays = prior.arrays
    rows = [prior.row(number, item, regularization) for number, item in enumerate(items)]
    new, n_factors = np.stack(rows).astype(np.float32), arrays.item_factors.shape[1]
    factors = np.concatenate([arrays.item_factors, new[:, :n_factors]])
    biases = None
    if arrays.item_biases is not None:
        biases = np.concatenate([arrays.item_biases, new[:, n_factors:]])
    return replace(arrays, item_factors=factors, item_biases=biases)


def choose_regularization(prior: ItemPrior, items: Sequence[Rated]) -> Choice:
    """The regularization with the least error when each rating is predicted from the others of its item.

    The users' rows were trained without these ratings, so the error is one on unseen data. Items with one
    rating don't count: the mean predicts it, whatever the ridge.
    """
    judged = [number for number, item in enumerate(items) if len(item.user_index) > 1]
    if len(judged) > MAX_JUDGED:
        judged = np.random.default_rng(0).choice(judged, MAX_JUDGED, replace=False).tolist()
    if sum(len(items[number].user_index) for number in judged) < MIN_LEFT_OUT:
        return Choice(DEFAULT_REGULARIZATION, None)
    errors = np.concatenate([prior.left_out_errors(number, items[number]) for number in judged], axis=1)
    rmses = np.sqrt((errors**2).mean(axis=1))
    best = int(rmses.argmin())
    return Choice(REGULARIZATIONS[best], float(rmses[best]))
