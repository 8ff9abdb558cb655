"""A catalogue in shards: each ranks its own items, and one graph merges their lists."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from serve.bundle.shards import MERGE
from serve.runtime.answers import fault_of_top, wrong_answer
from serve.runtime.batching import TOP_NAMES, Top
from serve.runtime.session import run

if TYPE_CHECKING:
    from serve.runtime.ranker import Ranker
    from serve.runtime.session import GraphSession

EachShard = Callable[[Callable[["Ranker"], Top], Iterable["Ranker"]], Iterable[Top]]
"""Applies a function to every shard, in order: `map`, or the `map` of an executor."""


class ShardsRanker(NamedTuple):
    """A `Ranker` of the whole catalogue, by the rankers of its shards: the lists of `recommend.onnx`.

    A shard may be a graph in this process or anything else that ranks its items, such as a process on another
    machine.
    """

    shards: Sequence[Ranker]
    """In the order of their items; each gets all that is excluded."""
    merge: GraphSession
    n_items: int
    top_k: int
    has_ratings: bool
    """See `Ranker`."""
    each: EachShard = map
    """Shards in this process are ranked one after another: each uses all threads."""

    @property
    def graph(self) -> str:
        """See Ranker."""
        return MERGE

    def rank(self, user_index: np.ndarray, exclude: np.ndarray) -> Top:
        """See Ranker. Raises BundleError: a shard or the merged list is not what it must be."""
        tops = list(self.each(lambda shard: shard.rank(user_index, exclude), self.shards))
        feeds = {
            "user_index": user_index,
            "shard_item_indices": np.concatenate([top.indices for top in tops], axis=1),
            "shard_scores": np.concatenate([top.scores for top in tops], axis=1),
        }
        names: tuple[str, ...] = TOP_NAMES[:2]
        if self.has_ratings:
            found = [top.ratings for top in tops if top.ratings is not None]
            feeds["shard_ratings"] = np.concatenate(found, axis=1)
            names = TOP_NAMES
        indices, scores, *ratings = run(self.merge, feeds, names)
        merged = Top(indices, scores, ratings[0] if ratings else None, MERGE)
        if wrong := fault_of_top(*merged[:3], exclude, self.top_k, self.n_items):
            raise wrong_answer(MERGE, wrong)
        return merged
