"""Models of implicit that are a product: alternating least squares, BPR, logistic matrix factorisation."""

from __future__ import annotations

from typing import Any

import numpy as np

from export.foreign import tables
from export.foreign.models import required
from export.foreign.own_parity import OwnScores
from export.model.arrays import Float64, Int64


def read_model(model: Any, seen: Any, options: dict[str, Any]) -> tuple[dict[str, Any], OwnScores, bool]:
    """The arguments of `bundle_arrays`, the model's own scores, and whether a list has the same."""
    found = required(model, "user_factors", "item_factors")
    user_factors, item_factors = map(tables.plain, found)

    def own_scores(users: Int64) -> Float64:
        n_items = len(item_factors)
        items, scores = model.recommend(users, None, N=n_items, filter_already_liked_items=False)
        own = np.full((len(users), n_items), np.nan)
        np.put_along_axis(own, np.asarray(items, np.int64), np.asarray(scores, np.float64), axis=1)
        return own

    given = {"user_factors": user_factors, "item_factors": item_factors, "seen": seen, "scores": "ranking"}
    return given, own_scores, True
