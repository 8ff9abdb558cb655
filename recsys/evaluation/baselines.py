"""Baselines, computed from the training ratings alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from recsys.evaluation.ranking import is_among

ROUNDS = 10
ITEM_DAMPING, USER_DAMPING = 10.0, 15.0
"""As in Surprise's `BaselineOnly`, after Koren, "Factor in the neighbors" (2010): the bias of an item with 10
ratings, or of a user with 15, is halved."""


@dataclass(frozen=True, eq=False)
class Biases:
    """rating = mean + user bias + item bias."""

    mean: float
    user_biases: np.ndarray
    """float64 [1 + n_users]; 0 for the unknown user and for users without a training rating."""
    item_biases: np.ndarray
    """float64 [1 + n_items], likewise."""

    def score(self, user_index: np.ndarray, item_index: np.ndarray) -> np.ndarray:
        """Score pairs: int [n], int [n] -> float64 [n]."""
        scores: np.ndarray = self.mean + self.user_biases[user_index] + self.item_biases[item_index]
        return scores


def fit_biases(
    user_index: np.ndarray, item_index: np.ndarray, ratings: np.ndarray, n_users: int, n_items: int
) -> Biases:
    """Fit damped biases by alternating least squares: ten rounds, items first, then users.

    Minimises sum (rating - mean - b_u - b_i)^2 + 15 sum b_u^2 + 10 sum b_i^2
    over int [n], int [n], float [n].
    """
    mean = float(ratings.mean(dtype=np.float64))
    residuals = ratings.astype(np.float64) - mean
    user_biases, item_biases = np.zeros(1 + n_users), np.zeros(1 + n_items)
    user_counts = np.bincount(user_index, minlength=1 + n_users)
    item_counts = np.bincount(item_index, minlength=1 + n_items)
    for _ in range(ROUNDS):
        left = np.bincount(item_index, residuals - user_biases[user_index], minlength=1 + n_items)
        item_biases = left / (item_counts + ITEM_DAMPING)
        left = np.bincount(user_index, residuals - item_biases[item_index], minlength=1 + n_users)
        user_biases = left / (user_counts + USER_DAMPING)
    return Biases(mean, user_biases, item_biases)


def popularity(item_index: np.ndarray, n_items: int) -> np.ndarray:
    """Number of ratings of each item: int [n] -> int64 [1 + n_items]."""
    return np.bincount(item_index, minlength=1 + n_items)


def same_for_everyone(item_scores: np.ndarray) -> Callable[[np.ndarray, np.ndarray, int], np.ndarray]:
    """Make a `Recommend` that ranks by float or int [1 + n_items] for every user; ties: lower index first."""
    order = 1 + np.argsort(-item_scores[1:], kind="stable")

    def recommend(user_index: np.ndarray, exclude_item_indices: np.ndarray, k: int) -> np.ndarray:
        n_excluded = exclude_item_indices.shape[1]
        candidates = np.tile(order[: k + n_excluded], (len(user_index), 1))  # [B, <= k + E]
        excluded = is_among(candidates, exclude_item_indices)
        # A stable sort moves excluded items to the end, and keeps the order of the others.
        places = np.argsort(excluded, axis=1, kind="stable")[:, :k]
        lists = np.where(excluded, 0, candidates)
        lists = np.take_along_axis(lists, places, axis=1)
        return np.pad(lists, [(0, 0), (0, k - lists.shape[1])])

    return recommend
