"""Surprise's SVD, which PMF is, too: SVD(biased=False). Its training set has the ids and the ratings."""

from __future__ import annotations

from typing import Any

import numpy as np

from export.errors import TableError
from export.foreign.models import required
from export.foreign.own_parity import OwnScores
from export.model.arrays import Float64, Int64


def read_model(model: Any, seen: Any, options: dict[str, Any]) -> tuple[dict[str, Any], OwnScores, bool]:
    """The arguments of `bundle_arrays`, the model's own scores, and whether a list has the same."""
    trained, user_factors, item_factors = required(model, "trainset", "pu", "qi")
    if hasattr(model, "yj"):
        raise TableError("SVDpp adds what a user has rated to the user's factors: it is no product of tables")
    users = [trained.to_raw_uid(row) for row in range(trained.n_users)]
    items = [trained.to_raw_iid(row) for row in range(trained.n_items)]
    given: dict[str, Any] = {
        "user_factors": user_factors,
        "item_factors": item_factors,
        "user_ids": users,
        "item_ids": items,
        "seen": seen if seen is not None else _ratings(trained, users, items),
        "scores": "ratings",
        "rating_scale": trained.rating_scale,
    }
    if model.biased:
        given |= {"user_biases": model.bu, "item_biases": np.asarray(model.bi) + trained.global_mean}

    def own_scores(rows: Int64) -> Float64:
        estimates = [
            [model.predict(users[row], item, clip=False).est for item in items] for row in rows.tolist()
        ]
        return np.array(estimates, np.float64)

    return given, own_scores, True


def _ratings(trained: Any, users: list[Any], items: list[Any]) -> dict[str, list[Any]]:
    user, item, rating = zip(*trained.all_ratings(), strict=True)
    return {
        "user_id": [users[row] for row in user],
        "item_id": [items[row] for row in item],
        "rating": list(rating),
    }
