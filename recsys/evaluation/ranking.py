"""Metrics of top-k lists in full ranking: of all items but those that the user has rated in training.

Relevance is binary: a held-out item is relevant, whatever its rating. Definitions as in Microsoft's
recommenders (`evaluation/python_evaluation.py`) and in Järvelin and Kekäläinen (2002) for nDCG; each value is
the mean over the users who have at least one held-out item.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np


@dataclass(frozen=True, eq=False)
class RatedItems:
    """Lists of any length, concatenated; user u's is `item_index[offsets[u]:offsets[u + 1]]`."""

    offsets: np.ndarray
    """int64 [2 + n_users]; user 0 (unknown) has an empty list."""
    item_index: np.ndarray
    """int64 [n]."""

    @classmethod
    def of(cls, user_index: np.ndarray, item_index: np.ndarray, n_users: int) -> Self:
        """Gather int [n] pairs into lists, each in the order of the pairs."""
        counts = np.bincount(user_index, minlength=1 + n_users)
        offsets = np.concatenate([[0], np.cumsum(counts)])
        return cls(offsets, item_index[np.argsort(user_index, kind="stable")].astype(np.int64))

    def lengths(self, user_index: np.ndarray) -> np.ndarray:
        """Length of each user's list: int [B] -> int64 [B]."""
        lengths: np.ndarray = self.offsets[user_index + 1] - self.offsets[user_index]
        return lengths

    def padded(self, user_index: np.ndarray) -> np.ndarray:
        """The users' lists: int [B] -> int64 [B, longest], 0-padded."""
        lengths = self.lengths(user_index)
        columns = np.arange(lengths.max(initial=0))
        inside = columns < lengths[:, None]  # [B, longest]
        result = np.zeros(inside.shape, dtype=np.int64)
        result[inside] = self.item_index[(self.offsets[user_index][:, None] + columns)[inside]]
        return result


def ranking_metrics(user_index: np.ndarray, top_items: np.ndarray, held_out: RatedItems) -> dict[str, float]:
    """Compare lists with the held-out items.

    Args:
        user_index: int [B], B >= 1; each has a held-out item.
        top_items: int [B, k], best first, 0-padded at the end; no item twice.
        held_out: relevant items of every user, none twice.

    Returns:
        Metrics from 0 to 1, higher is better. `ndcg_at_k`: hits, discounted by log2(1 + rank), as a share of
        the best that the user's list could get. `recall_at_k`: hits as a share of the user's held-out items.
        `precision_at_k`: hits as a share of k. `mrr_at_k`: 1 / rank of the first hit, 0 without one.
        `hit_rate_at_k`: share of users with a hit.
    """
    k = top_items.shape[1]
    n_relevant = held_out.lengths(user_index)  # [B]
    hits = is_among(top_items, held_out.padded(user_index))  # [B, k]
    n_hits = hits.sum(axis=1)
    discounts = 1 / np.log2(np.arange(2, k + 2))
    best_dcg = np.cumsum(discounts)[np.minimum(n_relevant, k) - 1]
    first = hits.argmax(axis=1)  # 0 where there is no hit: masked below
    return {
        "ndcg_at_k": float(np.mean(hits @ discounts / best_dcg)),
        "recall_at_k": float(np.mean(n_hits / n_relevant)),
        "precision_at_k": float(np.mean(n_hits / k)),
        "mrr_at_k": float(np.mean((n_hits > 0) / (first + 1))),
        "hit_rate_at_k": float(np.mean(n_hits > 0)),
    }


def list_metrics(top_items: np.ndarray, item_shares: np.ndarray) -> dict[str, float]:
    """What the lists of all users show of the catalogue.

    Args:
        top_items: int [B, k], 0-padded.
        item_shares: float [1 + n_items], share of the users who have rated each item.

    Returns:
        `coverage_at_k`: share of the items that are in any list. `popularity_at_k`: mean of `item_shares`
        over all places of all lists; 0 where the lists are empty.
    """
    listed = top_items[top_items > 0]
    return {
        "coverage_at_k": len(np.unique(listed)) / (len(item_shares) - 1),
        "popularity_at_k": float(np.mean(item_shares[listed])) if len(listed) else 0.0,
    }


def is_among(items: np.ndarray, lists: np.ndarray) -> np.ndarray:
    """Whether int [B, k] items are in their row of int [B, R] lists: bool [B, k]; False for 0 (padding)."""
    n_items = 1 + max(items.max(initial=0), lists.max(initial=0))
    rows = np.arange(len(items))[:, None] * n_items  # so that equal numbers mean equal items of one row
    return np.isin(items + rows, (lists + rows)[lists > 0]) & (items > 0)
