"""LightFM, with or without features: each user and item is the sum of the tables' rows of its features."""

from __future__ import annotations

from typing import Any

import numpy as np

from export.foreign.models import required
from export.foreign.own_parity import OwnScores
from export.model.arrays import Float64, Int64


def read_model(model: Any, seen: Any, options: dict[str, Any]) -> tuple[dict[str, Any], OwnScores, bool]:
    """The arguments of `bundle_arrays`, the model's own scores, and whether a list has the same.

    `user_features` and `item_features` among the options are those that the model was fitted with.
    """
    required(model, "user_embeddings", "item_embeddings")
    features = {name: options.pop(name, None) for name in ("user_features", "item_features")}
    user_biases, user_factors = model.get_user_representations(features["user_features"])
    item_biases, item_factors = model.get_item_representations(features["item_features"])

    def own_scores(users: Int64) -> Float64:
        items = np.arange(len(item_factors))
        rows = [model.predict(user, items, **features) for user in users.tolist()]
        # As the graphs rank: a user's bias does not order a list.
        return np.stack(rows).astype(np.float64) - np.asarray(user_biases, np.float64)[users, None]

    given = {
        "user_factors": user_factors,
        "item_factors": item_factors,
        "user_biases": user_biases,
        "item_biases": item_biases,
        "seen": seen,
        "scores": "ranking",
    }
    return given, own_scores, True
