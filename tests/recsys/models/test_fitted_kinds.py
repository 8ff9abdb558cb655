"""What all kinds that are fitted promise."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from tasteful_ratings import fit, random_ratings

from recsys.data.interactions import Interactions
from recsys.models import KINDS

SETTINGS: dict[str, dict[str, Any]] = {
    "bayes": {"n_factors": 4, "n_sampled_factors": 3, "iterations": 60},
    "ease": {"n_factors": 4},
    "ials": {"n_factors": 4, "regularization": 0.5},
}


@pytest.fixture(params=sorted(kind.name for kind in KINDS.values() if kind.fit))
def fitted(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def scores_of(kind: str, ratings: Interactions) -> np.ndarray:
    """float64 [n_users, n_items]: of the items that a user has not rated; -inf elsewhere."""
    tables = fit(kind, ratings, **SETTINGS[kind])
    scores = tables["user_factors"][1:].astype(np.float64) @ tables["item_factors"][1:].T.astype(np.float64)
    if "item_biases" in tables:
        scores += tables["item_biases"][1:, 0].astype(np.float64)
    scores[ratings.user_index - 1, ratings.item_index - 1] = -np.inf
    return scores


@pytest.mark.parametrize(("factor", "offset"), [(1e-5, 0.0), (1e5, 0.0), (1.0, 100.0), (2.0, -40.0)])
def test_a_positive_affine_change_of_the_ratings_changes_no_list(
    fitted: str, factor: float, offset: float
) -> None:
    ratings = random_ratings()
    changed = replace(ratings, ratings=(factor * ratings.ratings + offset).astype(np.float32))
    before, after = scores_of(fitted, ratings), scores_of(fitted, changed)
    order = np.argsort(-after, axis=1, kind="stable")[:, :5]
    best = -np.sort(-before, axis=1)[:, :5]
    # By value at each rank, because float32 may swap what is all but tied: 1e-3 of the scores' spread.
    spread = before[np.isfinite(before)].std()
    np.testing.assert_allclose(np.take_along_axis(before, order, axis=1), best, atol=1e-3 * spread)
