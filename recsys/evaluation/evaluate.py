"""Metrics of a recommender and of baselines on the held-out ratings.

A recommender is two functions of indices: torch modules and ONNX bundles are measured by the same code.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from recsys.data.interactions import Interactions
from recsys.data.splits import Split
from recsys.errors import ConfigError
from recsys.evaluation.baselines import fit_biases, popularity, same_for_everyone
from recsys.evaluation.ranking import RatedItems, list_metrics, ranking_metrics

Score = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""(user_index [n], item_index [n]) -> scores float [n]. Indices are int64."""
Recommend = Callable[[np.ndarray, np.ndarray, int], np.ndarray]
"""(user_index [B], exclude_item_indices [B, E] 0-padded, k) -> int [B, k], best first, 0-padded."""

DEFAULT_K = 10
USERS_AT_ONCE = 256
MAX_RANKED_USERS = 10_000
"""Ranking costs users x items; of a sample of this size, the standard error of nDCG is below 0.005."""


def evaluate(
    interactions: Interactions, split: Split, score: Score | None, recommend: Recommend, k: int = DEFAULT_K
) -> dict[str, Any]:
    """Compute metrics of predicted ratings and of lists of length k on the held-out part.

    Without `score`, which predicts ratings, rating errors are left out.

    Returns:
        Plain numbers: `rmse`, `mae` (ratings) over all held-out ratings; `ndcg_at_k`, `recall_at_k`,
        `precision_at_k`, `mrr_at_k`, `hit_rate_at_k`, `coverage_at_k`, `popularity_at_k` over users with a
        held-out rating (a seeded sample of at most 10,000); `k`, `n_held_out`, `n_ranked_users`,
        `n_users_without_ratings` (of those ranked, in training); and `baselines`: metrics of
        `global_mean`, `bias_only` and `popularity`. Where nothing is held out, only `k` and `n_held_out`.

    Raises:
        ConfigError: k is below 1.
    """
    if k < 1:
        raise ConfigError(f"k is {k}: at least 1 is needed")
    if not len(split.valid):
        return {"k": k, "n_held_out": 0}
    n_users, n_items = interactions.n_users, interactions.n_items
    train_users, train_items = interactions.user_index[split.train], interactions.item_index[split.train]
    train_ratings = interactions.ratings[split.train]
    valid_users, valid_items = interactions.user_index[split.valid], interactions.item_index[split.valid]
    seen = RatedItems.of(train_users, train_items, n_users)
    held_out = RatedItems.of(valid_users, valid_items, n_users)
    users = ranked_users(valid_users)
    # Users with histories of similar length share a batch, to keep the padding small.
    users = users[np.argsort(seen.lengths(users), kind="stable")]
    batches = np.split(users, range(USERS_AT_ONCE, len(users), USERS_AT_ONCE))

    def errors(score: Score) -> dict[str, float]:
        pairs = valid_users.astype(np.int64), valid_items.astype(np.int64)
        return rating_errors(score(*pairs), interactions.ratings[split.valid])

    def ranking(recommend: Recommend) -> dict[str, float]:
        lists = np.concatenate([recommend(batch, seen.padded(batch), k) for batch in batches])
        return ranking_metrics(users, lists, held_out) | list_metrics(lists, item_shares)

    counts = popularity(train_items, n_items)
    item_shares = counts / len(np.unique(train_users))
    mean = float(train_ratings.mean(dtype=np.float64))
    biases = fit_biases(train_users, train_items, train_ratings, n_users, n_items)
    return {
        **(errors(score) if score else {}),
        **ranking(recommend),
        "k": k,
        "n_held_out": len(split.valid),
        "n_ranked_users": len(users),
        "n_users_without_ratings": int(np.count_nonzero(seen.lengths(users) == 0)),
        "baselines": {
            "global_mean": errors(lambda users, items: np.full(len(users), mean)),
            "bias_only": errors(biases.score) | ranking(same_for_everyone(biases.item_biases)),
            "popularity": ranking(same_for_everyone(counts)),
        },
    }


def rating_errors(scores: np.ndarray, ratings: np.ndarray) -> dict[str, float]:
    """`rmse` and `mae` (ratings), in float64, of scores float [n] against ratings float [n], n >= 1."""
    errors = scores.astype(np.float64) - ratings.astype(np.float64)
    return {"rmse": float(np.sqrt(np.mean(errors**2))), "mae": float(np.mean(np.abs(errors)))}


def ranked_users(valid_users: np.ndarray) -> np.ndarray:
    """Distinct users of int [n], ascending, int64; a seeded sample of at most `MAX_RANKED_USERS`."""
    users = np.unique(valid_users).astype(np.int64)
    if len(users) <= MAX_RANKED_USERS:
        return users
    return np.sort(np.random.default_rng(0).choice(users, MAX_RANKED_USERS, replace=False))
