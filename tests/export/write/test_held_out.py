"""The spread of held-out errors, counted by hand."""

from __future__ import annotations

import numpy as np
import pytest

from export.write.held_out import spread
from serve.bundle.manifest import HeldOut, PopularityBand


def test_every_rating_and_prediction_is_counted_once_at_the_nearest_rating() -> None:
    ratings = np.array([1.0, 2.0, 2.0, 5.0], np.float32)
    scores = np.array([-3.0, 1.4, 3.4, 3.6], np.float32)
    found = spread(ratings, scores, np.array([0, 3, 4, 250]))
    assert found == HeldOut(
        n=4,
        ratings=[1.0, 2.0, 5.0],
        n_observed=[1, 2, 1],
        n_predicted=[2, 1, 1],  # -3 and 1.4; 3.4; 3.6
        by_popularity=[
            PopularityBand(lowest=0, highest=0, n=1, rmse=4.0, mae=4.0),
            PopularityBand(lowest=2, highest=4, n=2, rmse=pytest.approx(1.077033, rel=1e-5), mae=1.0),
            PopularityBand(lowest=200, highest=499, n=1, rmse=pytest.approx(1.4), mae=pytest.approx(1.4)),
        ],
    )


def test_many_different_ratings_are_counted_in_bars(rng) -> None:
    ratings = rng.uniform(-10, 10, 1000).astype(np.float32)
    found = spread(ratings, np.zeros(1000, np.float32), np.ones(1000, int))
    assert len(found.ratings) == 20
    assert sum(found.n_observed) == sum(found.n_predicted) == 1000
    assert min(found.n_observed) > 20
