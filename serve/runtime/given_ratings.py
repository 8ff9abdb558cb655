"""The ratings that a new user gives, in every form that `Recommender.fold_in` takes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from serve.errors import RequestError
from serve.runtime import validation

if TYPE_CHECKING:
    from serve.bundle.items import Catalogue
    from serve.runtime.recommender import Recommender


def given_ratings(
    recommender: Recommender, item_ids: Any, ratings: Any
) -> tuple[bool, list[np.ndarray], list[np.ndarray]]:
    """Check the ratings of one new user, or of many; arguments and errors are those of `Recommender.fold_in`.

    Returns:
        Whether they are of a single user; and each user's items, int64 [H], and ratings, float32 [H].
    """
    if ratings is None:
        item_ids, ratings = _of_mappings(recommender.items, item_ids)
    item_ids, ratings = _list(item_ids), _list(ratings)
    one = validation.is_one(item_ids) or not len(item_ids) or validation.is_one(item_ids[0])
    n = None if one else len(item_ids)
    item_rows = validation.lists("item_ids", item_ids, n)
    rating_rows = validation.lists("ratings", ratings, n)
    low, high = recommender.manifest.data.ratings_range
    indices, values = [], []
    for ids, given in zip(item_rows, rating_rows, strict=True):
        if len(ids) != len(given):
            raise RequestError(f"{len(ids)} items, but {len(given)} ratings")
        row = recommender.resolve(ids, "error", table="item")
        if twice := row[np.bincount(row, minlength=1)[row] > 1].tolist():
            raise RequestError(f"item {recommender.items.ids.one_id(twice[0])!r} is rated more than once")
        indices.append(row)
        values.append(validation.ratings(given, low, high))
    return one, indices, values


def _of_mappings(items: Catalogue, users: Any) -> tuple[list[Any], list[Any]]:
    """The ids and the ratings of {title or id: rating}, or of a list of such mappings: a list for each."""
    one = isinstance(users, Mapping)
    rows = [users] if one else [] if validation.is_one(users) else list(users)
    if not rows or not all(isinstance(row, Mapping) for row in rows):
        raise RequestError(f"ratings are missing: give items and ratings, or {{item: rating}}: {users!r:.80}")
    ids = [
        [items.ids.one_id(items.resolve(key)) if isinstance(key, str) else key for key in row] for row in rows
    ]
    values = [list(row.values()) for row in rows]
    return (ids[0], values[0]) if one else (ids, values)


def _list(values: Any) -> Any:
    """A column of pandas, polars or Arrow as an array; anything else as it is."""
    return np.asarray(values) if hasattr(values, "__array__") else values
