"""Summaries of a data set: counts, first rows, crosstab, histogram. `recsys data describe` prints them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from recsys.data.features import feature_names
from recsys.data.interactions import Interactions

MAX_BARS = 20


def summarize(interactions: Interactions) -> dict[str, Any]:
    """Counts and ranges of the data set, and what it knows of users and items.

    `density` is the fraction of the (user, rated item) pairs that have a rating; `time_range` is the times
    of the first and last rating (ISO 8601, UTC), or None.
    """
    per_user = np.bincount(interactions.user_index, minlength=interactions.n_users + 1)[1:]
    per_item = np.bincount(interactions.item_index)
    rated, ratings, times = per_item[per_item > 0], interactions.ratings, interactions.timestamps
    return {
        "name": interactions.name,
        "sha256": interactions.sha256,
        "licence": interactions.licence,
        "item_key": interactions.item_key,
        "n_ratings": len(interactions),
        "n_users": interactions.n_users,
        "n_items": interactions.n_items,
        "n_rated_items": len(rated),
        "density": len(interactions) / (interactions.n_users * len(rated)),
        "median_ratings_per_user": float(np.median(per_user)),
        "median_ratings_per_rated_item": float(np.median(rated)),
        "rating_mean": float(ratings.mean(dtype=np.float64)),
        "rating_range": (float(ratings.min()), float(ratings.max())),
        "implicit": interactions.implicit,
        "user_features": feature_names(interactions.users),
        "item_features": feature_names(interactions.items),
        "time_range": None if times is None else (_iso(times.min()), _iso(times.max())),
    }


def ratings_frame(interactions: Interactions, n: int | None = None) -> pd.DataFrame:
    """The first `n` ratings (None: all): user_id, item_id, rating and, if known, timestamp."""
    users = interactions.users["user_id"].take(interactions.user_index[:n] - 1)
    items = interactions.items["item_id"].take(interactions.item_index[:n] - 1)
    frame = pd.DataFrame({"user_id": users.array, "item_id": items.array, "rating": interactions.ratings[:n]})
    if interactions.timestamps is not None:
        frame["timestamp"] = interactions.timestamps[:n]
    return frame


def with_titles(interactions: Interactions, n: int | None = None) -> pd.DataFrame:
    """The first `n` ratings (None: all) with the titles, genres and years of their items."""
    known = interactions.items.drop(columns="item_id").take(interactions.item_index[:n] - 1)
    return pd.concat([ratings_frame(interactions, n), known.reset_index(drop=True)], axis="columns")


def crosstab(interactions: Interactions, n_users: int = 15, n_items: int = 15) -> pd.DataFrame:
    """Ratings of the items with the most ratings by the users with the most: float64, NaN without a rating.
    Rows and columns are in order of id.
    """
    users = _most_frequent(interactions.user_index, n_users)
    items = _most_frequent(interactions.item_index, n_items)
    here = np.isin(interactions.user_index, users) & np.isin(interactions.item_index, items)
    corner = np.full((len(users), len(items)), np.nan)
    rows = np.searchsorted(users, interactions.user_index[here])
    columns = np.searchsorted(items, interactions.item_index[here])
    corner[rows, columns] = interactions.ratings[here]
    return pd.DataFrame(
        corner,
        index=pd.Index(interactions.users["user_id"].take(users - 1), name="user_id"),
        columns=pd.Index(interactions.items["item_id"].take(items - 1), name="item_id"),
    )


def rating_histogram(interactions: Interactions) -> pd.DataFrame:
    """Counts of the ratings: `rating`, `count`, ascending. More than 20 different ratings are counted in 20
    bins of equal width, with the middle of the bin as `rating`.
    """
    ratings, counts = np.unique(interactions.ratings, return_counts=True)
    if len(ratings) > MAX_BARS:
        counts, edges = np.histogram(interactions.ratings.astype(np.float64), bins=MAX_BARS)
        ratings = (edges[:-1] + edges[1:]) / 2
    return pd.DataFrame({"rating": ratings.astype(np.float64), "count": counts.astype(np.int64)})


def _most_frequent(index: np.ndarray, n: int) -> np.ndarray:
    """The n most frequent indices, ascending; of equally frequent ones the lower first."""
    counts = np.bincount(index)
    n = min(n, int((counts > 0).sum()))
    return np.sort(np.argsort(-counts, kind="stable")[:n])


def _iso(seconds: int) -> str:
    return np.datetime_as_string(np.datetime64(int(seconds), "s"), timezone="UTC").item()
