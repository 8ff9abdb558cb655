"""Requests of any size, cut into runs of a graph that need bounded memory."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np

from serve.bundle.seen import ItemLists, Seen
from serve.runtime.session import run

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

    from serve.runtime.ranker import Ranker

Top = tuple[np.ndarray, np.ndarray]
"""Item indices int64 [B, K], 0 where no item is left; scores float32 [B, K]."""
Each = Callable[[Callable[[int], None], Iterable[int]], Iterable[None]]
"""Applies a function to the start of each run of a graph: `map`, or the `map` of an executor."""

# A run scores every item for each of its users at once. Throughput no longer grows beyond this many users or
# scores (64 MiB).
ROWS_PER_RUN = 256
SCORES_PER_RUN = 16 << 20
# Excluded items, padded (64 MiB): users who have seen nearly everything share a run with few others.
EXCLUDED_PER_RUN = 8 << 20


def pairs_per_run(threads: int) -> int:
    """Pairs in one run of `score.onnx` that `threads` threads share.

    Intermediate results stay in the cache: with 2^17 pairs in a run, each takes twice the time. Threads that
    share a run wait for each other at each node, less often with twice as many pairs for each.
    """
    return 1 << 12 if threads == 1 else threads << 13


def score_pairs(
    session: InferenceSession, user_index: np.ndarray, item_index: np.ndarray, threads: int, each: Each
) -> np.ndarray:
    """The scores (float32 [n]) that `score.onnx` gives to pairs of indices (int64 [n] both, not checked)."""
    scores = np.empty(len(user_index), np.float32)
    step = pairs_per_run(threads)

    def score(start: int) -> None:
        part = slice(start, start + step)
        (scores[part],) = run(session, {"user_index": user_index[part], "item_index": item_index[part]})

    deque(each(score, range(0, len(user_index), step)), maxlen=0)  # raises the first error
    return scores


def rank_rows(session: InferenceSession, feeds: Mapping[str, np.ndarray], n_items: int, k: int) -> Top:
    """The results of a ranking graph (K is `k`) for feeds with any number of rows."""
    n_rows = len(next(iter(feeds.values())))
    step = max(1, min(ROWS_PER_RUN, SCORES_PER_RUN // (n_items + 1)))
    if n_rows <= step and n_rows:
        top, scores = run(session, feeds)[:2]
        return top, scores
    top, scores = np.empty((n_rows, k), np.int64), np.empty((n_rows, k), np.float32)
    for start in range(0, n_rows, step):
        part = slice(start, start + step)
        top[part], scores[part] = run(session, {name: array[part] for name, array in feeds.items()})[:2]
    return top, scores


def rank_users(
    ranker: Ranker,
    user_index: np.ndarray,
    top_k: int,
    seen: Seen | None,
    rated_by: np.ndarray,
    exclude: np.ndarray | None,
    each: Each,
) -> Top:
    """The `top_k` best items of many users, in runs of bounded size. Indices are not checked.

    Args:
        ranker: Ranks at least `top_k` items.
        user_index: int64 [B].
        top_k: Length of the lists.
        seen: Items that users have rated; None: exclude none of them.
        rated_by: int64 [B], the user whose rated items are excluded for each row; 0: none.
        exclude: Further items to exclude: int64 [B, E], 0-padded.
        each: See `Each`.
    """
    if len(user_index) == 1:  # a single request, where microseconds count
        rated = np.zeros((1, 1), np.int64) if seen is None else seen.padded(rated_by)
        best, values = ranker.rank(user_index, _side_by_side(rated, exclude))
        return best[:, :top_k], values[:, :top_k]
    if seen is None:
        lists, place = ItemLists.empty(1), np.zeros(len(user_index), np.int64)
    else:
        users, place = np.unique(rated_by, return_inverse=True)
        lists = seen.of_users(users)
    # Users whose lists have similar lengths run together: all lists of a run are padded to the longest.
    lengths = lists.lengths[place]
    order = np.argsort(lengths, kind="stable")
    top = np.empty((len(user_index), top_k), np.int64)
    scores = np.empty((len(user_index), top_k), np.float32)

    def rank_some(start: int) -> None:
        rows = order[start : stops[start]]
        rated = lists.padded(place[rows])
        both = _side_by_side(rated, None if exclude is None else exclude[rows])
        best, values = ranker.rank(user_index[rows], both)
        top[rows], scores[rows] = best[:, :top_k], values[:, :top_k]

    more = 0 if exclude is None else exclude.shape[1]
    stops = dict(_stretches(lengths[order] + more))
    deque(each(rank_some, stops), maxlen=0)
    return top, scores


def _side_by_side(rated: np.ndarray, exclude: np.ndarray | None) -> np.ndarray:
    return rated if exclude is None else np.concatenate([rated, exclude], axis=1)


def _stretches(lengths: np.ndarray) -> Iterator[tuple[int, int]]:
    """Start and stop of each run: `ROWS_PER_RUN` rows, or what fits `EXCLUDED_PER_RUN`; `lengths` ascend."""
    start = 0
    while start < len(lengths):
        stop = min(start + ROWS_PER_RUN, len(lengths))
        while stop - start > 1 and (stop - start) * lengths[stop - 1] > EXCLUDED_PER_RUN:
            stop = start + max(1, EXCLUDED_PER_RUN // int(lengths[stop - 1]))
        yield start, stop
        start = stop
