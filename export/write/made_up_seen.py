"""Made-up ratings in place of those that a bundle must not give away."""

from __future__ import annotations

import numpy as np

from export.model.arrays import Int64
from export.model.inputs import SeenRatings

N_RATED = 10


def made_up_seen(users: Int64, n_items: int, ratings_range: tuple[float, float]) -> SeenRatings:
    """Random ratings of ten random items by each of these users, int64 [n]; the same each time."""
    rng = np.random.default_rng(6)
    n_rated = min(N_RATED, n_items)
    items = np.concatenate([1 + rng.choice(n_items, n_rated, replace=False) for _ in users])
    ratings = rng.uniform(*ratings_range, len(items)).astype(np.float32)
    return SeenRatings.of(np.repeat(users, n_rated), items, ratings)
