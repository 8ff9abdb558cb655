"""Requests of any size, cut into runs of a graph so that memory stays bounded."""

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
"""Item indices int64 [B, K], 0 where none is left; scores float32 [B, K]."""
Each = Callable[[Callable[[int], None], Iterable[int]], Iterable[None]]
"""Applies a function to each run of a graph: `map`, or an executor's `map`, several at a time."""

# A run scores every item for each of its users at once. Larger batches are cut into runs of this many users,
# and of this many scores (64 MiB), so that memory stays bounded; throughput no longer grows beyond either.
ROWS_PER_RUN = 256
SCORES_PER_RUN = 16 << 20
# Items to leave out, padded (64 MiB): users who have seen nearly everything share a run with few others.
EXCLUDED_PER_RUN = 8 << 20


def pairs_per_run(threads: int) -> int:
    """Pairs to score in one run that `threads` threads share.

    What lies between two nodes of the graph stays in the cache: with 2^17 pairs, each takes twice the time.
    Threads that share a run wait for each other at each node: with twice as many each, they do so less often.
    """
    return 1 << 12 if threads == 1 else threads << 13


def score_pairs(
    session: InferenceSession, user_index: np.ndarray, item_index: np.ndarray, threads: int, each: Each
) -> np.ndarray:
    """The scores of pairs (int64 [n] both): float32 [n].

    Args:
        session: Of `score.onnx`.
        user_index: Known to be in range.
        item_index: The same.
        threads: What one run of the session takes.
        each: See `Each`.
    """
    scores = np.empty(len(user_index), np.float32)
    step = pairs_per_run(threads)

    def score(start: int) -> None:
        part = slice(start, start + step)
        (scores[part],) = run(session, {"user_index": user_index[part], "item_index": item_index[part]})

    _do(each(score, range(0, len(user_index), step)))
    return scores


def rank_rows(session: InferenceSession, feeds: Mapping[str, np.ndarray], n_items: int, k: int) -> Top:
    """What a ranking graph with `k` results says to feeds of any number of rows."""
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
    """The `top_k` best items of many users.

    Args:
        ranker: Ranks some users at a time.
        user_index: int64 [B], known to be in range.
        top_k: At most what `ranker` gives.
        seen: What users have rated; None: nothing of it is left out.
        rated_by: int64 [B]: whose rated items are left out for each user, 0 for nobody's.
        exclude: More to leave out: int64 [B, E], 0-padded.
        each: See `Each`.
    """
    if len(user_index) == 1:  # one request, where every microsecond counts
        rated = np.zeros((1, 1), np.int64) if seen is None else seen.padded(rated_by)
        best, values = ranker.rank(user_index, _side_by_side(rated, exclude))
        return best[:, :top_k], values[:, :top_k]
    if seen is None:
        lists, place = ItemLists.empty(1), np.zeros(len(user_index), np.int64)
    else:
        users, place = np.unique(rated_by, return_inverse=True)
        lists = seen.of_users(users)
    # Users with lists of like length run together: padded to the longest, the lists of a few would cost as
    # much as all the scores.
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
    _do(each(rank_some, stops))
    return top, scores


def _side_by_side(rated: np.ndarray, exclude: np.ndarray | None) -> np.ndarray:
    return rated if exclude is None else np.concatenate([rated, exclude], axis=1)


def _stretches(lengths: np.ndarray) -> Iterator[tuple[int, int]]:
    """First and one past the last of each run over lists of rising length (int64 [n]).

    A run has `ROWS_PER_RUN` rows, or as many as fit `EXCLUDED_PER_RUN` padded to the longest; at least one.
    """
    start = 0
    while start < len(lengths):
        stop = min(start + ROWS_PER_RUN, len(lengths))
        while stop - start > 1 and (stop - start) * lengths[stop - 1] > EXCLUDED_PER_RUN:
            stop = start + max(1, EXCLUDED_PER_RUN // int(lengths[stop - 1]))
        yield start, stop
        start = stop


def _do(results: Iterable[None]) -> None:
    """Exhaust an iterator of runs; the first error is raised."""
    deque(results, maxlen=0)
