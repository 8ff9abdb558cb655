"""The summaries of the embedded data set, compared with pandas."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from recsys.data import Interactions, load
from recsys.data.describe import crosstab, rating_histogram, ratings_frame, summarize, with_titles


@pytest.fixture(scope="module")
def movies() -> Interactions:
    return load("ml-latest-small")


def test_summary(movies: Interactions) -> None:
    summary = summarize(movies)
    counts = [summary[name] for name in ("n_ratings", "n_users", "n_items", "n_rated_items")]
    assert counts == [100_836, 610, 9_742, 9_724]
    assert summary["density"] == pytest.approx(100_836 / (610 * 9_724))
    assert summary["rating_range"] == (0.5, 5.0)
    assert summary["time_range"] == ("1996-03-29T18:36:55Z", "2018-09-24T14:27:30Z")
    frame = ratings_frame(movies)
    assert summary["rating_mean"] == pytest.approx(frame["rating"].astype(float).mean())
    assert summary["median_ratings_per_user"] == frame.groupby("user_id").size().median()
    assert summary["median_ratings_per_rated_item"] == frame.groupby("item_id").size().median()


def test_ratings_merged_with_titles(movies: Interactions) -> None:
    merged = ratings_frame(movies).merge(movies.items, on="item_id", how="left")
    pd.testing.assert_frame_equal(with_titles(movies), merged)
    pd.testing.assert_frame_equal(with_titles(movies, 5), merged.head(5))


def test_crosstab_is_that_of_the_notes(movies: Interactions) -> None:
    frame = ratings_frame(movies)
    users = frame.groupby("user_id")["rating"].count().sort_values(ascending=False, kind="stable")[:15].index
    items = frame.groupby("item_id")["rating"].count().sort_values(ascending=False, kind="stable")[:15].index
    corner = frame[frame.user_id.isin(users) & frame.item_id.isin(items)]
    expected = pd.crosstab(corner.user_id, corner.item_id, corner.rating, aggfunc="sum")
    pd.testing.assert_frame_equal(crosstab(movies), expected, check_dtype=False)
    assert crosstab(movies, n_users=10_000, n_items=3).shape == (610, 3)


def test_histogram(movies: Interactions) -> None:
    counts = ratings_frame(movies)["rating"].value_counts().sort_index()
    histogram = rating_histogram(movies)
    assert histogram["rating"].tolist() == counts.index.tolist()
    assert histogram["count"].tolist() == counts.tolist()


def test_histogram_of_ratings_on_no_scale(write: Callable[[str, str], str], rng: np.random.Generator) -> None:
    rows = "".join(f"{n},1,{rating}\n" for n, rating in enumerate(rng.uniform(0, 100, 500)))
    histogram = rating_histogram(load(write("r.csv", "user_id,item_id,rating\n" + rows)))
    assert len(histogram) == 20
    assert histogram["count"].sum() == 500
    assert histogram["rating"].is_monotonic_increasing
