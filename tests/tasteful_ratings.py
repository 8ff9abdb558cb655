"""Small data sets of ratings for fits: random ones, and one of which the right lists are provable."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import torch

from recsys.data.interactions import Interactions
from recsys.models import config_from_dict, kind_of

N_TASTES, ITEMS_PER_TASTE = 3, 5


def interactions(
    user_index: np.ndarray,
    item_index: np.ndarray,
    ratings: np.ndarray,
    n_users: int,
    n_items: int,
    genres: list[str] | None = None,
) -> Interactions:
    """Ratings whose ids are their indices."""
    items = pd.DataFrame({"item_id": np.arange(1, n_items + 1)})
    return Interactions(
        name="tastes",
        sha256="",
        licence="unknown",
        item_key="id",
        users=pd.DataFrame({"user_id": np.arange(1, n_users + 1)}),
        items=items if genres is None else items.assign(genres=pd.Series(genres, dtype="str")),
        user_index=user_index.astype(np.int32),
        item_index=item_index.astype(np.int32),
        ratings=ratings.astype(np.float32),
        timestamps=None,
    )


def random_ratings(n_users: int = 40, n_items: int = 20, share: float = 0.3, seed: int = 0) -> Interactions:
    """Ratings from 1 to 5 of random pairs; the last user and the last item have none."""
    rng = np.random.default_rng(seed)
    users, items = np.nonzero(rng.random((n_users - 1, n_items - 1)) < share)
    return interactions(users + 1, items + 1, rng.integers(1, 6, len(users)), n_users, n_items)


def three_tastes(n_users: int = 30) -> Interactions:
    """User u likes the items i with i % 3 = u % 3, and has rated all of them but `left_out(u)`."""
    users, items = np.meshgrid(np.arange(1, n_users + 1), np.arange(1, N_TASTES * ITEMS_PER_TASTE + 1))
    rated = (users % N_TASTES == items % N_TASTES) & (items != left_out(users))
    return interactions(
        users[rated], items[rated], np.full(rated.sum(), 4), n_users, N_TASTES * ITEMS_PER_TASTE
    )


def left_out(user_index: np.ndarray) -> np.ndarray:
    """The one item of a user's taste that the user has not rated: all equally often."""
    return (user_index // N_TASTES % ITEMS_PER_TASTE) * N_TASTES + np.where(
        user_index % N_TASTES, user_index % N_TASTES, N_TASTES
    )


def fit(
    kind: str,
    ratings: Interactions,
    seed: int = 0,
    log: list[Mapping[str, float]] | None = None,
    **settings: Any,
) -> dict[str, np.ndarray]:
    """Fit a kind on the CPU; metrics of iterations are appended to `log`."""
    fitted = kind_of(kind).fit
    assert fitted is not None
    tables = fitted(
        ratings,
        config_from_dict(kind, settings),
        seed=seed,
        device=torch.device("cpu"),
        on_progress=lambda done, total: None,
        on_iteration=(lambda metrics: None) if log is None else log.append,
    )
    return dict(tables)


def unrated_by_score(tables: Mapping[str, np.ndarray], ratings: Interactions) -> np.ndarray:
    """All items by score for each user, the user's own items last: int64 [n_users, n_items]."""
    scores = tables["user_factors"][1:] @ tables["item_factors"][1:].T
    scores[ratings.user_index - 1, ratings.item_index - 1] = -np.inf
    return 1 + np.argsort(-scores, axis=1, kind="stable")
