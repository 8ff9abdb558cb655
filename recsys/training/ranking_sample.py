"""nDCG@10 of some users on the held-out ratings, quick enough for every epoch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from torch import nn

from recsys.data.interactions import Interactions
from recsys.data.splits import Split
from recsys.evaluation.ranking import RatedItems, ranking_metrics
from recsys.models.scoring import ranker

K = 10
MAX_USERS = 500
MAX_SCORES = 1 << 23
"""Of all users together: fewer users are ranked in a large catalogue."""
MIN_USERS = 20


@dataclass(frozen=True, eq=False)
class RankingSample:
    """Users whose lists are compared with their held-out ratings."""

    users: np.ndarray
    """int64 [B], ascending."""
    seen: np.ndarray
    """int64 [B, E], 0-padded: what they have rated in training."""
    held_out: RatedItems
    n_items: int

    @classmethod
    def of(cls, data: Interactions, split: Split) -> Self:
        """Draw from the users with a held-out rating, the same each time."""
        users = np.unique(data.user_index[split.valid]).astype(np.int64)
        n = min(MAX_USERS, max(MIN_USERS, MAX_SCORES // (1 + data.n_items)))
        users = np.sort(np.random.default_rng(0).permutation(users)[:n])
        seen, held_out = (
            RatedItems.of(data.user_index[rows], data.item_index[rows], data.n_users)
            for rows in (split.train, split.valid)
        )
        return cls(users, seen.padded(users), held_out, data.n_items)

    def measure(self, model: nn.Module) -> dict[str, float]:
        """`valid_ndcg_at_10` of a model that ranks; it is left in eval mode."""
        model.eval()
        if not len(self.users):
            return {}
        lists = ranker(model, self.n_items)(self.users, self.seen, K)
        return {f"valid_ndcg_at_{K}": ranking_metrics(self.users, lists, self.held_out)["ndcg_at_k"]}
