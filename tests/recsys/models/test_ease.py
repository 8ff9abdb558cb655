"""EASE against its closed form in numpy, and on data whose right lists are provable."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from tasteful_ratings import fit, interactions, left_out, random_ratings, three_tastes, unrated_by_score

from recsys.data.interactions import Interactions
from recsys.errors import ConfigError
from recsys.models import build, config_from_dict
from recsys.models.ease import EaseConfig

GENRES = ["a", "b", "a|b", "c", ""] * 4
FULL = {"n_factors": 20, "regularization": 5.0}
OPERATOR = {"max_dense_items": 0}


def with_genres() -> Interactions:
    ratings = random_ratings()
    return interactions(
        ratings.user_index, ratings.item_index, ratings.ratings, ratings.n_users, ratings.n_items, GENRES
    )


def closed_form(ratings: Interactions) -> np.ndarray:
    """Scores [n_users, n_items] by the formula, in float64."""
    rated = np.zeros((ratings.n_users, ratings.n_items))
    rated[ratings.user_index - 1, ratings.item_index - 1] = 1
    weighted = rated * np.maximum(rated.sum(axis=1, keepdims=True), 1) ** -0.25
    gram = weighted.T @ weighted
    gram *= len(ratings) / np.trace(gram)
    features = np.array([[genre in genres.split("|") for genre in "abc"] for genres in GENRES], float)
    inverse = np.linalg.inv(gram + 4 * features @ features.T + 5 * np.eye(ratings.n_items))
    weights = -inverse / np.diag(inverse)
    np.fill_diagonal(weights, 0)
    return rated @ weights


@pytest.mark.parametrize("form", [{}, OPERATOR], ids=["dense", "operator"])
def test_tables_of_full_width_give_the_closed_form(form: dict[str, int]) -> None:
    ratings = with_genres()
    tables = fit("ease", ratings, **FULL, **form)
    scores = tables["user_factors"][1:] @ tables["item_factors"][1:].T
    np.testing.assert_allclose(scores, closed_form(ratings), atol=2e-5)


def test_both_forms_truncate_to_the_same_scores() -> None:
    ratings = with_genres()
    dense, operator = (
        fit("ease", ratings, n_factors=4, regularization=5.0, **form) for form in ({}, OPERATOR)
    )
    scores = [tables["user_factors"] @ tables["item_factors"].T for tables in (dense, operator)]
    np.testing.assert_allclose(scores[0], scores[1], atol=1e-3)


@pytest.mark.parametrize("form", [{}, OPERATOR], ids=["dense", "operator"])
def test_the_left_out_item_of_the_own_taste_comes_first(form: dict[str, int]) -> None:
    ratings = three_tastes()
    lists = unrated_by_score(fit("ease", ratings, regularization=5.0, **form), ratings)
    np.testing.assert_array_equal(lists[:, 0], left_out(np.arange(1, 31)))


def test_a_user_is_the_sum_of_the_input_rows_of_the_user_s_items() -> None:
    ratings = random_ratings()
    tables = fit("ease", ratings, n_factors=6)
    for user in range(ratings.n_users + 1):
        rows = tables["input_factors"][ratings.item_index[ratings.user_index == user]]
        np.testing.assert_allclose(tables["user_factors"][user], rows.sum(axis=0), atol=1e-6)
    assert np.abs(tables["input_factors"][0]).max() == 0


def test_an_item_without_ratings_is_ranked_by_its_features() -> None:
    ratings = three_tastes()
    genres = [str(item % 3) for item in range(1, 16)] + ["0", "1", "2"]  # items 16, 17, 18 have no ratings
    ratings = interactions(ratings.user_index, ratings.item_index, ratings.ratings, 30, 18, genres)
    tables = fit("ease", ratings, regularization=5.0)
    scores = tables["user_factors"][1:] @ tables["item_factors"][16:].T
    np.testing.assert_array_equal(scores.argmax(axis=1), np.arange(1, 31) % 3)
    without = fit("ease", ratings, regularization=5.0, feature_weight=0.0)
    np.testing.assert_allclose(without["item_factors"][16:] @ without["user_factors"].T, 0, atol=1e-6)


def test_values_of_ratings_do_not_matter_and_the_same_seed_gives_the_same_bytes() -> None:
    ratings = with_genres()
    tables, again = fit("ease", ratings), fit("ease", replace(ratings, ratings=7 - ratings.ratings))
    assert {name: table.tobytes() for name, table in tables.items()} == {
        name: table.tobytes() for name, table in again.items()
    }


def test_tables_wider_than_the_catalogue_end_in_zeros_and_fit_the_module() -> None:
    ratings = random_ratings()
    tables = fit("ease", ratings, n_factors=30)
    assert np.abs(tables["item_factors"][:, 20:]).max() == 0
    state = build("ease", EaseConfig(n_factors=30), ratings.n_users, ratings.n_items).state_dict()
    assert {name: tuple(table.shape) for name, table in state.items()} == {
        name: table.shape for name, table in tables.items()
    }
    assert {table.dtype for table in tables.values()} == {np.dtype(np.float32)}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"n_factors": 0}, "factors is 0"),
        ({"regularization": 0}, "regularization is 0"),
        ({"feature_weight": float("inf")}, "feature_weight is inf"),
        ({"user_power": -1}, "user_power is -1"),
    ],
    ids=str,
)
def test_settings_out_of_range_are_refused(settings: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        config_from_dict("ease", settings)
