"""What every answer of a graph obeys. A graph of a forged bundle may pass its golden rows and fail later."""

from __future__ import annotations

import numpy as np

from serve.errors import BundleError

# Below all scores; graphs give -1e30 where no item is left.
NO_SCORE = np.float32(-1e29)


def fault_of_top(
    indices: np.ndarray,
    scores: np.ndarray,
    ratings: np.ndarray | None,
    excluded: np.ndarray,
    k: int,
    n_items: int,
) -> str | None:
    """What is wrong with ranked items, or None.

    All are [B, `k`], where B is the length of `excluded` (int64 [B, E], 0-padded). Indices lie in 1 to
    `n_items`, none of them twice in a row or excluded; scores are finite and fall. Where no item is left, the
    rest of a row has index 0 and a score of -1e30.
    """
    shape = len(excluded), k
    if indices.shape != shape or scores.shape != shape or (ratings is not None and ratings.shape != shape):
        return f"lists of {indices.shape} and scores of {scores.shape} instead of {shape}"
    if indices.min(initial=0) < 0 or indices.max(initial=0) > n_items:
        return f"items beyond 1 to {n_items}"
    # One sort finds what comes twice: bit 0 tells excluded items, which follow the same item of the list.
    # With 32 bits, numpy sorts in half of the time.
    both = np.concatenate([indices.astype(np.uint32) << 1, excluded.astype(np.uint32) << 1 | 1], axis=1)
    both.sort(axis=1)
    first = both[:, :-1]
    twice = (first ^ both[:, 1:]) <= 1
    if twice.any() and (twice & (first & 1 == 0) & (first > 0)).any():
        return "an item twice, or one that is excluded"
    # Written so that NaN fails, too.
    if not ((scores[:, 1:] <= scores[:, :-1]).all() and np.isfinite(scores[:, [0, -1]]).all()):
        return "scores that do not fall, or are not finite"
    if not np.array_equal(scores > NO_SCORE, indices > 0):
        return "a score without an item, or an item without a score"
    if ratings is not None and not np.isfinite(ratings).all():
        return "ratings that are not finite"
    return None


def wrong_answer(graph: str, what: str) -> BundleError:
    """The error for an answer that is none."""
    return BundleError(
        f"the graph {graph} does not answer as the manifest promises: it gives {what}. Don't serve this "
        f"bundle; export it again."
    )
