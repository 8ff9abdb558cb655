"""iALS against its normal equations in float64, and on data whose right lists are provable."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest
from tasteful_ratings import fit, left_out, random_ratings, three_tastes, unrated_by_score

from recsys.errors import ConfigError
from recsys.models import build, config_from_dict
from recsys.models.ials import IalsConfig, weights_of

SMALL = {"n_factors": 4, "regularization": 0.5}


def test_the_left_out_item_of_the_own_taste_comes_first() -> None:
    ratings = three_tastes()
    lists = unrated_by_score(fit("ials", ratings, **SMALL), ratings)
    np.testing.assert_array_equal(lists[:, 0], left_out(np.arange(1, 31)))


def test_a_user_is_the_ridge_regression_of_1_on_the_items_with_regularisation_1() -> None:
    ratings = random_ratings()
    tables = fit("ials", ratings, **SMALL)
    items = tables["item_factors"].astype(np.float64)
    for user in range(1, ratings.n_users + 1):
        of_user = ratings.user_index == user
        rows = items[ratings.item_index[of_user]]
        weights = weights_of(ratings.ratings[of_user], tables["confidence"])
        expected = np.linalg.solve(np.eye(4) + (rows.T * weights) @ rows, rows.T @ weights)
        np.testing.assert_allclose(tables["user_factors"][user], expected, atol=1e-5)


def test_both_sides_solve_their_normal_equations_and_the_objective_is_the_sum_it_says() -> None:
    ratings, config = random_ratings(), IalsConfig(**SMALL, iterations=200)
    log: list[Mapping[str, float]] = []
    tables = fit("ials", ratings, log=log, **SMALL, iterations=config.iterations)
    a, r = config.unobserved_weight, config.regularization
    # Back from U L and V L'^-1, where L'L = r (I - a W'W)^-1 with W = V L'^-1, up to a rotation of both.
    white = tables["item_factors"].astype(np.float64)
    root = np.linalg.cholesky(r * np.linalg.inv(np.eye(4) - a * white.T @ white)).T
    users, items = tables["user_factors"] @ np.linalg.inv(root), white @ root.T
    weights = np.zeros((len(users), len(items)))
    weights[ratings.user_index, ratings.item_index] = weights_of(ratings.ratings, tables["confidence"])
    for rows, others, of_rows in ((users, items, weights), (items, users, weights.T)):
        common = a * others.T @ others + r * np.eye(4)
        expected = [np.linalg.solve(common + (others.T * w) @ others, others.T @ w) for w in of_rows]
        np.testing.assert_allclose(rows, expected, atol=1e-3)
    scores = users @ items.T
    objective = (weights * (1 - scores) ** 2).sum() + a * (scores**2).sum()
    objective += r * ((users**2).sum() + (items**2).sum())
    assert log[-1]["objective"] == pytest.approx(objective / len(ratings), rel=1e-4)
    assert log[-1]["objective"] < log[0]["objective"]


def test_unrated_rows_are_0() -> None:
    ratings = random_ratings()
    tables = fit("ials", ratings, **SMALL)
    for table, n in (("user_factors", ratings.n_users), ("item_factors", ratings.n_items)):
        assert np.abs(tables[table][[0, n]]).max() == 0
        assert np.abs(tables[table][1:n]).max(axis=1).min() > 0


def test_a_positive_affine_change_of_the_ratings_changes_nothing() -> None:
    ratings = random_ratings()
    changed = replace(ratings, ratings=ratings.ratings * 20 - 7)
    tables, others = fit("ials", ratings, **SMALL), fit("ials", changed, **SMALL)
    np.testing.assert_allclose(tables["user_factors"], others["user_factors"], atol=1e-5)
    opposite = fit("ials", replace(ratings, ratings=-ratings.ratings), **SMALL)
    assert np.abs(tables["user_factors"] - opposite["user_factors"]).max() > 1e-3


def test_equal_ratings_have_weight_1() -> None:
    tables = fit("ials", three_tastes(), **SMALL)
    assert tables["confidence"].tolist() == [4, 0]
    assert weights_of(np.array([4.0, -100.0]), tables["confidence"]).tolist() == [1, 1]
    # A rating far below the mean still has a positive weight.
    assert weights_of(np.array([-1e6]), np.array([3, 0.1], np.float32))[0] > 0


def test_a_seed_decides_the_tables_and_they_fit_the_module() -> None:
    ratings = random_ratings()
    tables, again = fit("ials", ratings, 3, **SMALL), fit("ials", ratings, 3, **SMALL)
    assert {name: table.tobytes() for name, table in tables.items()} == {
        name: table.tobytes() for name, table in again.items()
    }
    assert tables["item_factors"].tobytes() != fit("ials", ratings, 4, **SMALL)["item_factors"].tobytes()
    state = build("ials", IalsConfig(n_factors=4), ratings.n_users, ratings.n_items).state_dict()
    assert {name: tuple(table.shape) for name, table in state.items()} == {
        name: table.shape for name, table in tables.items()
    }
    assert {table.dtype for table in tables.values()} == {np.dtype(np.float32)}


@pytest.mark.parametrize(
    "settings",
    [{"n_factors": 0}, {"regularization": 0}, {"unobserved_weight": float("nan")}, {"rating_weight": -1}],
    ids=str,
)
def test_settings_out_of_range_are_refused(settings: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=f"ials.*{next(iter(settings)).removeprefix('n_')[:6]}"):
        config_from_dict("ials", settings)
