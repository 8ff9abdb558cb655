"""The Gibbs sampler on data whose right answer is known."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from recsys.data.interactions import Interactions
from recsys.errors import ConfigError
from recsys.models.bayes import BayesConfig, _ScoreSum, fit

N_USERS, N_ITEMS, RANK = 60, 40, 2
CONFIG = BayesConfig(n_factors=4, n_sampled_factors=3, iterations=40, burn_in=10)


def interactions(user: np.ndarray, item: np.ndarray, ratings: np.ndarray, **items: Any) -> Interactions:
    return Interactions(
        name="planted",
        sha256="",
        licence="",
        item_key="id",
        users=pd.DataFrame({"user_id": np.arange(N_USERS)}),
        items=pd.DataFrame({"item_id": np.arange(N_ITEMS), **items}),
        user_index=1 + user.astype(np.int32),
        item_index=1 + item.astype(np.int32),
        ratings=ratings.astype(np.float32),
        timestamps=None,
    )


@pytest.fixture
def planted() -> tuple[Interactions, np.ndarray]:
    """Half of the entries of a product of rank 2 with biases, with noise of 0.1; and the whole product."""
    rng = np.random.default_rng(0)
    truth = rng.normal(size=(N_USERS, RANK)) @ rng.normal(size=(RANK, N_ITEMS)) + rng.normal(size=N_ITEMS)
    user, item = np.nonzero(rng.random(truth.shape) < 0.5)
    return interactions(user, item, truth[user, item] + rng.normal(scale=0.1, size=len(user))), truth


def tables(ratings: Interactions, config: BayesConfig = CONFIG, seed: int = 0) -> dict[str, np.ndarray]:
    return dict(
        fit(
            ratings,
            config,
            seed=seed,
            device=torch.device("cpu"),
            on_progress=lambda done, total: None,
            on_iteration=lambda metrics: None,
        )
    )


def scores(found: dict[str, np.ndarray]) -> np.ndarray:
    """float32 [N_USERS, N_ITEMS]"""
    rows = slice(1, None)
    return found["user_factors"][rows] @ found["item_factors"][rows].T + found["item_biases"][rows].T


def test_a_planted_product_is_recovered(planted: tuple[Interactions, np.ndarray]) -> None:
    ratings, truth = planted
    hidden = np.ones(truth.shape, bool)
    hidden[ratings.user_index - 1, ratings.item_index - 1] = False
    errors = (scores(tables(ratings)) - truth)[hidden]
    assert np.sqrt(np.mean(errors**2)) < 0.2 * truth.std()


@pytest.mark.parametrize("history", [False, True])
def test_without_features_it_is_a_plain_factorisation(
    planted: tuple[Interactions, np.ndarray], history: bool
) -> None:
    ratings, truth = planted
    found = scores(tables(ratings, replace(CONFIG, history=history, attributes=False)))
    assert np.sqrt(np.mean((found - truth) ** 2)) < 0.2 * truth.std()


def test_the_seed_determines_the_tables(planted: tuple[Interactions, np.ndarray]) -> None:
    first, again, other = (tables(planted[0], seed=seed) for seed in (1, 1, 2))
    assert all(np.array_equal(first[name], again[name]) for name in first)
    assert not np.array_equal(first["user_factors"], other["user_factors"])


@pytest.mark.parametrize("scale", [1e-5, 1e5])
def test_predictions_follow_the_scale_of_the_ratings(
    planted: tuple[Interactions, np.ndarray], scale: float
) -> None:
    ratings, truth = planted
    scaled = scores(tables(replace(ratings, ratings=ratings.ratings * np.float32(scale)))) / scale
    np.testing.assert_allclose(scaled, scores(tables(ratings)), atol=0.02 * truth.std())


def test_users_have_mean_0_and_covariance_1(planted: tuple[Interactions, np.ndarray]) -> None:
    users = tables(planted[0])["user_factors"][1:].astype(np.float64)
    np.testing.assert_allclose(users.mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(users.T @ users / len(users), np.eye(users.shape[1]), atol=1e-4)


def test_a_new_item_is_predicted_by_its_genre() -> None:
    rng = np.random.default_rng(1)
    genre = np.array(["war", "love"] * (N_ITEMS // 2))
    liked = np.where(np.arange(N_USERS)[:, None] % 2 == 0, genre == "war", genre == "love")
    user, item = np.nonzero(rng.random(liked.shape) < 0.5)
    rated = item < N_ITEMS - 2  # nobody has rated the last two items
    user, item = user[rated], item[rated]
    found = tables(interactions(user, item, np.where(liked[user, item], 5, 1), genres=genre))
    cold = scores(found)[:, -2:]
    assert (cold[liked[:, -2:]].mean() - cold[~liked[:, -2:]].mean()) > 2


def test_a_product_too_large_for_memory_gives_the_dense_tables(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = torch.Generator().manual_seed(0)
    draws = [(torch.randn(30, 5, generator=rng), torch.randn(20, 5, generator=rng)) for _ in range(12)]
    dense = _ScoreSum(30, 20, torch.device("cpu"))
    monkeypatch.setattr("recsys.models.bayes.MAX_DENSE", 0)
    monkeypatch.setattr("recsys.models.bayes.MAX_WIDTH", 48)  # truncated to 24, more than the rank of 20
    wide = _ScoreSum(30, 20, torch.device("cpu"))
    products = []
    for total in (dense, wide):
        for left, right in draws:
            total.add(left, right)
        users, items, means = total.tables(20)
        products.append(users @ items.T + means)
    right_answer = sum(left.double() @ right.double().T for left, right in draws) / len(draws)
    for product in products:
        torch.testing.assert_close(product, right_answer, rtol=0, atol=1e-9)


def test_more_factors_than_items_are_padded(planted: tuple[Interactions, np.ndarray]) -> None:
    wide = tables(planted[0], replace(CONFIG, n_factors=N_ITEMS + 9))
    assert wide["item_factors"].shape == (1 + N_ITEMS, N_ITEMS + 9)
    assert np.isfinite(wide["user_factors"]).all()


def test_wrong_settings_are_refused() -> None:
    with pytest.raises(ConfigError, match="at least 1 factor"):
        BayesConfig(n_factors=0)
    with pytest.raises(ConfigError, match="40 draws of burn-in leave none of 40"):
        BayesConfig(iterations=40, burn_in=40)
