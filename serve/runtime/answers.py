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
    highest: int,
    lowest: int = 1,
) -> str | None:
    """What is wrong with ranked items, or None.

    All are [B, `k`], where B is the length of `excluded` (int64 [B, E], 0-padded). Indices, int64, lie in
    `lowest` to `highest`, none of them twice in a row or excluded; scores are finite and fall. Where no item
    is left, the rest of a row has index 0 and a score of -1e30.
    """
    # For a single list, `np.count_nonzero` takes a tenth of the time of `any` and `all`.
    count, n_rows = np.count_nonzero, len(excluded)
    shape = n_rows, k
    if indices.shape != shape or scores.shape != shape or (ratings is not None and ratings.shape != shape):
        return f"lists of {indices.shape} and scores of {scores.shape} instead of {shape}"
    is_low = lowest > 1 and bool(((indices > 0) & (indices < lowest)).any())
    if is_low or indices.view(np.uint64).max(initial=0) > highest:  # what is below 0 is large without a sign
        return f"items beyond {lowest} to {highest}"
    # One sort finds what comes twice: bit 0 tells excluded items, which follow the same item of the list.
    # With 32 bits, numpy sorts in half of the time.
    both = np.concatenate([indices.astype(np.uint32) << 1, excluded.astype(np.uint32) << 1 | 1], axis=1)
    both.sort(axis=1)
    first = both[:, :-1]
    twice = (first ^ both[:, 1:]) <= 1
    if count(twice) and (twice & (first & 1 == 0) & (first > 0)).any():
        return "an item twice, or one that is excluded"
    # Written so that NaN fails, too.
    falls = count(scores[:, 1:] <= scores[:, :-1]) == n_rows * (k - 1)
    if not (falls and count(np.isfinite(scores[:, [0, -1]])) == 2 * n_rows):
        return "scores that do not fall, or are not finite"
    if count((scores > NO_SCORE) == (indices > 0)) != indices.size:
        return "a score without an item, or an item without a score"
    if ratings is not None and count(np.isfinite(ratings)) != ratings.size:
        return "ratings that are not finite"
    return None


def wrong_answer(graph: str, what: str) -> BundleError:
    """The error for an answer that is none."""
    return BundleError(
        f"the graph {graph} does not answer as the manifest promises: it gives {what}. Don't serve this "
        f"bundle; export it again."
    )
