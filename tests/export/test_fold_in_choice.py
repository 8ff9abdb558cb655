"""The ridge of fold-in is chosen by held-out ratings, its steps by the solver's answer."""

from __future__ import annotations

import numpy as np

from export.arrays import DotArrays
from export.fold_in_choice import (
    FACTOR_TOLERANCE,
    REGULARIZATIONS,
    choose_fold_in,
    max_factor_error,
    sample_histories,
)


def make_users(rng: np.random.Generator, noise: float):
    """Users whose ratings are made by known factors, with noise: 60 users, 40 items, 3 factors."""
    item_factors = rng.normal(size=(41, 3)).astype(np.float32)
    users = rng.normal(size=(60, 3))
    user_index, item_index = (axis.ravel() + 1 for axis in np.indices((60, 40)))
    ratings = np.sum(users[user_index - 1] * item_factors[item_index], axis=1)
    ratings = (ratings + rng.normal(0, noise, len(ratings))).astype(np.float32)
    held_out = rng.random(len(ratings)) < 0.8
    arrays = DotArrays(np.zeros((61, 3), np.float32), item_factors, None, None, None)
    return arrays, sample_histories(user_index, item_index, ratings, held_out, rng)


def test_exact_ratings_want_no_ridge_and_noisy_ones_do(rng) -> None:
    exact = choose_fold_in(*make_users(rng, noise=0.0))
    noisy = choose_fold_in(*make_users(rng, noise=3.0))
    assert exact.regularization == REGULARIZATIONS[0]
    assert noisy.regularization > 1.0
    assert noisy.n_held_out_users == 60
    assert exact.held_out_rmse is not None
    assert exact.held_out_rmse < 0.2


def test_the_steps_reach_the_tolerance(rng) -> None:
    arrays, histories = make_users(rng, noise=1.0)
    choice = choose_fold_in(arrays, histories)
    assert max_factor_error(arrays, histories, choice.regularization, choice.steps) <= FACTOR_TOLERANCE
    assert max_factor_error(arrays, histories, choice.regularization, 1) > FACTOR_TOLERANCE


def test_a_split_by_user_folds_in_truly_new_users(rng) -> None:
    user_index = np.repeat([1, 2, 3], 10)
    item_index = np.tile(np.arange(1, 11), 3)
    held_out = user_index == 2
    (history,) = sample_histories(user_index, item_index, np.ones(30, np.float32), held_out, rng)
    assert len(history.item_indices) == len(history.held_out_indices) == 5
    assert set(history.item_indices) | set(history.held_out_indices) == set(range(1, 11))


def test_without_held_out_ratings_there_is_a_default(rng) -> None:
    arrays, _ = make_users(rng, noise=1.0)
    choice = choose_fold_in(arrays, [])
    assert (choice.held_out_rmse, choice.n_held_out_users) == (None, 0)
