"""Lists of held-out users, by which the fold-in of an export is chosen."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from export.model.arrays import Float64, Int64
from export.model.inputs import FoldInHistory
from export.model.reference import MASKED
from recsys.evaluation.ranking import RatedItems, ranking_metrics

K = 10
# Scores that are ranked for each choice; a large catalogue is ranked for fewer users.
MAX_SCORES = 1 << 22
MIN_USERS = 20


def some_users(histories: Sequence[FoldInHistory], n_items: int) -> Sequence[FoldInHistory]:
    """The first users, as many as are ranked for each choice."""
    return histories[: max(MIN_USERS, MAX_SCORES // n_items)]


def best_items(scores: Float64, known: Int64) -> Int64:
    """The `K` best items that are not known, of scores float64 [n_items + 1]: int64 [K]."""
    scores = scores.copy()
    scores[known] = MASKED
    scores[0] = MASKED
    k = min(K, len(scores) - 1)
    best = np.argpartition(-scores, k - 1)[:k]
    return best[np.argsort(-scores[best], kind="stable")]


def mean_ndcg(lists: Sequence[Int64], histories: Sequence[FoldInHistory]) -> float:
    """Mean nDCG@10 of one list for each user."""
    lengths = [len(held_out.item_indices) for _, held_out in histories]
    users = np.repeat(np.arange(len(histories)), lengths)
    held_out = RatedItems.of(
        users, np.concatenate([rest.item_indices for _, rest in histories]), len(histories) - 1
    )
    return ranking_metrics(np.arange(len(histories)), np.stack(lists), held_out)["ndcg_at_k"]
