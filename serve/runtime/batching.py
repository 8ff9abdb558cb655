"""Requests of any size, cut into runs of a graph that need bounded memory."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, NamedTuple, Self

import numpy as np

from serve.bundle.manifest import Manifest
from serve.bundle.seen import ItemLists, Seen
from serve.bundle.shards import SHARD, role
from serve.runtime.answers import fault_of_top, wrong_answer
from serve.runtime.session import run

if TYPE_CHECKING:
    from serve.runtime.ranker import Ranker
    from serve.runtime.session import GraphSession


class Top(NamedTuple):
    """Ranked items, one row for each user or item, best first."""

    indices: np.ndarray
    """int64 [B, K]; 0 where no item is left"""
    scores: np.ndarray
    """float32 [B, K]; -1e30 where no item is left"""
    ratings: np.ndarray | None
    """float32 [B, K], predicted ratings, -1e30 where no item is left; None: nothing predicts them"""
    graph: str
    """The graph that ranked them"""

    @classmethod
    def empty(cls, graph: str, n_rows: int, k: int, *, has_ratings: bool) -> Self:
        """Arrays to be filled, [n_rows, k], of a graph."""
        indices, scores = np.empty((n_rows, k), np.int64), np.empty((n_rows, k), np.float32)
        return cls(indices, scores, np.empty((n_rows, k), np.float32) if has_ratings else None, graph)

    def fill(self, rows: slice | np.ndarray, other: Top) -> None:
        """Copy all of `other` to some rows."""
        for mine, theirs in zip(self[:3], other[:3], strict=True):
            if mine is not None:
                mine[rows] = theirs

    def first(self, k: int) -> Top:
        """The first k columns."""
        ratings = None if self.ratings is None else self.ratings[:, :k]
        return Top(self.indices[:, :k], self.scores[:, :k], ratings, self.graph)

    def row(self, number: int) -> Top:
        """One row alone: [K] each."""
        ratings = None if self.ratings is None else self.ratings[number]
        return Top(self.indices[number], self.scores[number], ratings, self.graph)


def with_ratings(top: Top, manifest: Manifest) -> Top:
    """Clip predicted ratings to the data's scale; where ratings order the lists, they are the scores."""
    ratings = top.scores if manifest.model.lists == "ratings" else top.ratings
    if ratings is None:
        return top
    low, high = manifest.data.ratings_range
    clipped = np.minimum(ratings, high)  # np.clip takes three times as long for one user
    return top._replace(ratings=np.maximum(clipped, low, out=clipped, where=top.indices > 0))


Each = Callable[[Callable[[int], None], Iterable[int]], Iterable[None]]
"""Applies a function to the start of each run of a graph: `map`, or the `map` of an executor."""

# Graph that ranks, by its role -> its input of items that its lists leave out.
LEFT_OUT = {
    "recommend": "exclude_item_indices",
    "recommend_fast": "exclude_item_indices",
    SHARD: "exclude_item_indices",
    "similar_items": "item_index",
    "fold_in": "item_indices",
    "recommend_filtered": "exclude_item_indices",
    "fold_in_filtered": "item_indices",
}
TOP_NAMES = ("top_item_indices", "top_scores", "top_ratings")

# A run scores every item for each of its users at once. Throughput no longer grows beyond this many users or
# scores (64 MiB).
ROWS_PER_RUN = 256
SCORES_PER_RUN = 16 << 20
# Excluded items, padded (64 MiB): users who have seen nearly everything share a run with few others.
EXCLUDED_PER_RUN = 8 << 20


def rows_per_run(n_items: int) -> int:
    """Users or items in one run of a graph that scores every item for each."""
    return max(1, min(ROWS_PER_RUN, SCORES_PER_RUN // (n_items + 1)))


def pairs_per_run(threads: int) -> int:
    """Pairs in one run of `score.onnx` that `threads` threads share.

    Intermediate results stay in the cache: with 2^17 pairs in a run, each takes twice the time. Threads that
    share a run wait for each other at each node, less often with twice as many pairs for each.
    """
    return 1 << 12 if threads == 1 else threads << 13


def score_pairs(
    session: GraphSession,
    user_index: np.ndarray,
    item_index: np.ndarray,
    bounds: tuple[float, float],
    threads: int,
    each: Each,
) -> np.ndarray:
    """The scores (float32 [n]) that `score.onnx` gives to pairs of indices (int64 [n] both, not checked).

    Raises BundleError: a score is not within `bounds`, or the graph fails.
    """
    scores = np.empty(len(user_index), np.float32)
    step = pairs_per_run(threads)

    def score(start: int) -> None:
        part = slice(start, start + step)
        (found,) = run(session, {"user_index": user_index[part], "item_index": item_index[part]}, ["score"])
        if found.shape != user_index[part].shape:
            raise wrong_answer("score", f"{found.shape} scores of {user_index[part].shape} pairs")
        # Written so that NaN fails, too.
        if len(found) and not bounds[0] <= found.min() <= found.max() <= bounds[1]:
            raise wrong_answer("score", f"scores from {found.min():g} to {found.max():g}")
        scores[part] = found

    deque(each(score, range(0, len(user_index), step)), maxlen=0)  # raises the first error
    return scores


def rank_rows(
    session: GraphSession,
    graph: str,
    feeds: Mapping[str, np.ndarray],
    items: tuple[int, int],
    k: int,
    *,
    has_ratings: bool,
    shared: Mapping[str, np.ndarray] = {},
) -> Top:
    """The results of a ranking graph (K is `k`) for feeds with any number of rows.

    `items`: the first index that the graph ranks, and one past the last. `has_ratings`: whether it has the
    output `top_ratings`. `shared`: inputs that all rows share.

    Raises BundleError: the graph fails, or a list is none.
    """
    names = TOP_NAMES if has_ratings else TOP_NAMES[:2]
    first, stop = items

    def ranked(part: Mapping[str, np.ndarray]) -> Top:
        indices, scores, *ratings = run(session, {**part, **shared}, names)
        top = Top(indices, scores, ratings[0] if ratings else None, graph)
        left_out = part[LEFT_OUT[role(graph)]]
        if wrong := fault_of_top(*top[:3], left_out.reshape(len(left_out), -1), k, stop - 1, first):
            raise wrong_answer(graph, wrong)
        return top

    n_rows = len(next(iter(feeds.values())))
    step = rows_per_run(stop - first)
    if n_rows <= step and n_rows:
        return ranked(feeds)
    top = Top.empty(graph, n_rows, k, has_ratings=has_ratings)
    for start in range(0, n_rows, step):
        part = slice(start, start + step)
        top.fill(part, ranked({name: array[part] for name, array in feeds.items()}))
    return top


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
        return ranker.rank(user_index, _side_by_side(rated, exclude)).first(top_k)
    if seen is None:
        lists, place = ItemLists.empty(1), np.zeros(len(user_index), np.int64)
    else:
        users, place = np.unique(rated_by, return_inverse=True)
        lists = seen.of_users(users)
    # Users whose lists have similar lengths run together: all lists of a run are padded to the longest.
    lengths = lists.lengths[place]
    order = np.argsort(lengths, kind="stable")
    top = Top.empty(ranker.graph, len(user_index), top_k, has_ratings=ranker.has_ratings)

    def rank_some(start: int) -> None:
        rows = order[start : stops[start]]
        rated = lists.padded(place[rows])
        both = _side_by_side(rated, None if exclude is None else exclude[rows])
        top.fill(rows, ranker.rank(user_index[rows], both).first(top_k))

    more = 0 if exclude is None else exclude.shape[1]
    stops = dict(_stretches(lengths[order] + more))
    deque(each(rank_some, stops), maxlen=0)
    return top


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
