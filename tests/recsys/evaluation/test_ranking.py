"""The vectorised metrics against the slow, obvious ones."""

from __future__ import annotations

import math

import numpy as np
import pytest

from recsys.evaluation.ranking import RatedItems, list_metrics, ranking_metrics


def slow_metrics(lists: list[list[int]], held_out: list[set[int]], k: int) -> dict[str, float]:
    """One user and one rank at a time, by the textbook."""
    sums = dict.fromkeys(("ndcg_at_k", "recall_at_k", "precision_at_k", "mrr_at_k", "hit_rate_at_k"), 0.0)
    for items, relevant in zip(lists, held_out, strict=True):
        hits = [rank for rank, item in enumerate(items[:k], start=1) if item != 0 and item in relevant]
        best = sum(1 / math.log2(rank + 1) for rank in range(1, min(k, len(relevant)) + 1))
        sums["ndcg_at_k"] += sum(1 / math.log2(rank + 1) for rank in hits) / best
        sums["recall_at_k"] += len(hits) / len(relevant)
        sums["precision_at_k"] += len(hits) / k
        sums["mrr_at_k"] += 1 / hits[0] if hits else 0
        sums["hit_rate_at_k"] += bool(hits)
    return {name: total / len(lists) for name, total in sums.items()}


@pytest.mark.parametrize("k", [1, 3, 10])
def test_metrics_equal_the_slow_ones(k: int, rng: np.random.Generator) -> None:
    n_users, n_items = 40, 30
    held_out = [
        set(rng.choice(np.arange(1, n_items + 1), rng.integers(1, 8), replace=False)) for _ in range(n_users)
    ]
    lists = np.stack([rng.permutation(n_items)[:k] + 1 for _ in range(n_users)])
    for user in range(0, n_users, 5):  # lists that ran out of items
        lists[user, k // 2 :] = 0
    users = np.repeat(np.arange(1, n_users + 1), [len(items) for items in held_out])
    items = np.concatenate([sorted(items) for items in held_out])
    order = rng.permutation(len(users))
    measured = ranking_metrics(
        np.arange(1, n_users + 1), lists, RatedItems.of(users[order], items[order], n_users)
    )
    expected = slow_metrics(lists.tolist(), held_out, k)
    for name, value in expected.items():
        # Sums of at most 40 float64 terms in another order.
        assert measured[name] == pytest.approx(value, rel=1e-12), name


def test_perfect_and_empty_lists() -> None:
    held_out = RatedItems.of(np.array([1, 1, 2]), np.array([3, 5, 4]), 2)
    users = np.array([1, 2])
    perfect = ranking_metrics(users, np.array([[5, 3, 1], [4, 1, 2]]), held_out)
    assert [perfect.pop(name) for name in ("ndcg_at_k", "recall_at_k", "mrr_at_k", "hit_rate_at_k")] == [
        1
    ] * 4
    assert perfect == {"precision_at_k": pytest.approx((2 / 3 + 1 / 3) / 2)}
    empty = ranking_metrics(users, np.zeros((2, 3), np.int64), held_out)
    assert set(empty.values()) == {0.0}


def test_coverage_and_popularity_of_lists() -> None:
    shares = np.array([0, 0.5, 0.25, 0, 1])
    lists = np.array([[4, 1], [4, 0]])  # two of four items; 1, 1 and 0.5 of the users have rated them
    assert list_metrics(lists, shares) == {"coverage_at_k": 0.5, "popularity_at_k": pytest.approx(2.5 / 3)}
    assert set(list_metrics(0 * lists, shares).values()) == {0.0}


def test_lists_keep_their_order_and_pad_with_zero() -> None:
    lists = RatedItems.of(np.array([2, 4, 2, 2]), np.array([9, 7, 1, 5]), 4)
    assert lists.padded(np.array([4, 2, 1])).tolist() == [[7, 0, 0], [9, 1, 5], [0, 0, 0]]
    assert lists.lengths(np.array([4, 2, 1, 0])).tolist() == [1, 3, 0, 0]
    assert lists.padded(np.array([1, 3])).shape == (2, 0)
