"""Rows of new items: planted ones are found again, and the quick leave-one-out is the slow one."""

from __future__ import annotations

import numpy as np
import pytest

from export.add_items.item_rows import (
    DEFAULT_REGULARIZATION,
    REGULARIZATIONS,
    ItemPrior,
    Rated,
    choose_regularization,
    with_items,
)
from export.model.dot import DotArrays
from export.model.score_range import to_range

TINY = 1e-7


def rated(users: np.ndarray, ratings: np.ndarray) -> Rated:
    return Rated(users.astype(np.int64), ratings.astype(np.float32))


def planted(arrays: DotArrays, rng: np.random.Generator, n_ratings: int = 9) -> tuple[np.ndarray, Rated]:
    """A new item's factors (and bias), and the ratings that they make, without noise."""
    users = 1 + rng.permutation(len(arrays.user_factors) - 1)[:n_ratings]
    row = rng.normal(0, 0.3, arrays.item_factors.shape[1] + (arrays.item_biases is not None))
    factors = arrays.user_factors[users].astype(np.float64)
    logits = factors @ row[: factors.shape[1]]
    if arrays.user_biases is not None:
        logits = logits + arrays.user_biases[users, 0] + row[-1]
    return row, rated(users, to_range(logits, arrays.y_range))


def test_a_planted_item_is_found_again(dot_arrays: DotArrays, rng) -> None:
    """As many ratings as unknowns, and no ridge to speak of: the item that made them is the only solution."""
    row, item = planted(dot_arrays, rng)
    found = with_items(ItemPrior.of(dot_arrays, 1), [item], TINY)
    n_factors = dot_arrays.item_factors.shape[1]
    np.testing.assert_allclose(found.item_factors[-1], row[:n_factors], atol=1e-3)
    if found.item_biases is not None:
        np.testing.assert_allclose(found.item_biases[-1, 0], row[-1], atol=1e-3)
    predicted = found.scores64(item.user_index)[:, -1]
    np.testing.assert_allclose(predicted, item.ratings, atol=1e-4)


def test_a_heavy_ridge_gives_the_average_item(dot_arrays: DotArrays, rng) -> None:
    _, item = planted(dot_arrays, rng)
    found = with_items(ItemPrior.of(dot_arrays, 1), [item], 1e9)
    np.testing.assert_allclose(found.item_factors[-1], dot_arrays.item_factors[0], atol=1e-6)
    if found.item_biases is not None:
        np.testing.assert_allclose(found.item_biases[-1], found.item_biases[0], atol=1e-6)


def test_leaving_out_quickly_is_leaving_out_one_by_one(dot_arrays: DotArrays, rng) -> None:
    _, item = planted(dot_arrays, rng, 6)
    item = item._replace(ratings=(item.ratings + rng.normal(0, 0.5, 6)).astype(np.float32))
    prior = ItemPrior.of(dot_arrays, 1)
    errors = prior.left_out_errors(0, item)
    assert errors.shape == (len(REGULARIZATIONS), 6)
    for place, regularization in enumerate(REGULARIZATIONS):
        for left_out in range(6):
            rest = rated(np.delete(item.user_index, left_out), np.delete(item.ratings, left_out))
            placed = with_items(prior, [rest], regularization)
            predicted = placed.scores64(item.user_index[left_out : left_out + 1])[0, -1]
            # A left-out rating near an end of the scale is pulled in where it is the target, nowhere else.
            assert errors[place, left_out] == pytest.approx(predicted - item.ratings[left_out], abs=1e-6)


def make_users(rng: np.random.Generator) -> DotArrays:
    users = rng.normal(size=(61, 3)).astype(np.float32)
    return DotArrays(users, rng.normal(size=(5, 3)).astype(np.float32), None, None, None)


def test_exact_ratings_want_no_ridge_and_noisy_ones_do(rng) -> None:
    arrays = make_users(rng)
    exact, noisy = [], []
    for _ in range(20):
        _, item = planted(arrays, rng, 6)
        exact.append(item)
        noisy.append(item._replace(ratings=(item.ratings + rng.normal(0, 3, 6)).astype(np.float32)))
    chosen = choose_regularization(ItemPrior.of(arrays, 20), exact)
    assert chosen.regularization == REGULARIZATIONS[0]
    assert chosen.left_out_rmse is not None
    assert chosen.left_out_rmse < 0.2
    assert choose_regularization(ItemPrior.of(arrays, 20), noisy).regularization > 2.0


def test_too_few_ratings_to_choose_by(rng) -> None:
    arrays = make_users(rng)
    singles = [rated(np.array([user]), np.array([3.0])) for user in range(1, 50)]
    pair = rated(np.array([1, 2]), np.array([3.0, 4.0]))
    items = [*singles, pair]
    assert choose_regularization(ItemPrior.of(arrays, len(items)), items) == (DEFAULT_REGULARIZATION, None)


def test_the_penalty_follows_the_spread_of_the_known_items(rng) -> None:
    """New items from the distribution of the known ones, whose columns differ a hundredfold: their ratings
    are predicted better than by a ridge with one penalty for all columns, however strong."""
    sizes = np.array([3.0, 1.0, 0.3, 0.03])
    users = rng.normal(size=(401, 4)).astype(np.float32)
    known = (rng.normal(size=(301, 4)) * sizes).astype(np.float32)
    known[0] = known[1:].mean(axis=0)
    arrays = DotArrays(users, known, None, None, None)
    rows = rng.normal(size=(60, 4)) * sizes
    items = []
    for row in rows:
        raters = 1 + rng.permutation(400)[:5]
        items.append(rated(raters, users[raters] @ row + rng.normal(0, 1, 5)))

    def error(placed: np.ndarray) -> float:
        return float(np.square(placed - rows).sum())

    prior = ItemPrior.of(arrays, 60)
    chosen = choose_regularization(prior, items).regularization
    placed = with_items(prior, items, chosen).item_factors[-60:]
    mirrored = arrays.mirrored()
    flat = [
        error(np.stack([mirrored.fold_in64(*item, np.full(4, strength)) for item in items]))
        for strength in (0.01, 0.1, 0.3, 1.0, 3.0, 10.0, 100.0)
    ]
    assert error(placed) < 0.9 * min(flat)


def test_features_say_where_a_new_item_lies(rng) -> None:
    """The known items' rows follow two features: a new item with one vague rating lies where its features
    say, and without them near the average item."""
    effects = np.array([[2.0, 0.0, 1.0], [0.0, -2.0, 1.0]])
    features = (rng.random((420, 2)) < 0.5).astype(np.float32)
    rows = features @ effects + rng.normal(0, 0.1, (420, 3))
    known = np.concatenate([rows[:400].mean(axis=0, keepdims=True), rows[:400]]).astype(np.float32)
    arrays = DotArrays(rng.normal(size=(50, 3)).astype(np.float32), known, None, None, None)
    items = [rated(np.array([1]), np.array([0.0])) for _ in range(20)]

    def error(prior: ItemPrior) -> float:
        return float(np.abs(with_items(prior, items, 100.0).item_factors[-20:] - rows[400:]).mean())

    assert error(ItemPrior.of(arrays, 20, features)) < 0.15
    assert error(ItemPrior.of(arrays, 20)) > 0.5
