"""Row 0, the average: in a model without a range, what an unknown user gets is provably everybody's mean."""

from __future__ import annotations

import numpy as np
import pytest
from fixture_bundles import FIXTURES

from serve.runtime.recommender import Recommender

NOBODY = 999_999


@pytest.fixture(scope="module")
def recommender() -> Recommender:
    """A plain dot product: scores are linear in the user and in the item."""
    loaded = Recommender.load(FIXTURES / "dot", "cpu")
    assert loaded.manifest.model.score_range is None
    return loaded


@pytest.fixture(scope="module")
def scores(recommender: Recommender) -> np.ndarray:
    """float64 [n_users, n_items], every known pair."""
    users, items = recommender.users.ids(np.arange(1, 31)), recommender.items.ids.ids(np.arange(1, 51))
    rows = [recommender.score(user, items).scores for user in users.tolist()]
    return np.array(rows, np.float64)


def test_an_unknown_user_scores_as_all_users_do_on_average(
    recommender: Recommender, scores: np.ndarray
) -> None:
    found = recommender.score(NOBODY, recommender.items.ids.ids(np.arange(1, 51)))
    np.testing.assert_allclose(found.scores, scores.mean(axis=0), atol=1e-5)
    assert not found.known.any()


def test_an_unknown_item_scores_as_all_items_do_on_average(
    recommender: Recommender, scores: np.ndarray
) -> None:
    found = recommender.score(recommender.users.ids(np.arange(1, 31)), NOBODY)
    np.testing.assert_allclose(found.scores, scores.mean(axis=1), atol=1e-5)
    assert not found.known.any()


def test_an_unknown_users_list_is_ranked_by_the_mean(recommender: Recommender, scores: np.ndarray) -> None:
    found = recommender.recommend(NOBODY, 10)
    order = np.argsort(-scores.mean(axis=0), kind="stable")[:10]
    np.testing.assert_array_equal(found.item_indices, 1 + order)
    assert found.known is False
