"""Rankers: users and exclusions in, each user's best items out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np

from serve.bundle.manifest import Manifest
from serve.bundle.manifest_check import TOP_RATINGS
from serve.runtime.batching import Top, rank_rows

if TYPE_CHECKING:
    from serve.runtime.session import GraphSession


# From this many items on, one user's list from `recommend_fast.onnx` takes about half of the exact one's time
# or less (benchmarks/results/query.md). Batches of users are faster exactly.
FAST_ITEMS = 100_000


def ranking_graph(manifest: Manifest, n_users: int, top_k: int) -> str:
    """The graph that ranks `top_k` items for this many users in the least time, on the CPU."""
    fast = manifest.graphs.get("recommend_fast")
    if fast is None or n_users != 1 or manifest.model.n_items < FAST_ITEMS:
        return "recommend"
    assert fast.top_k is not None  # open_bundle checked
    return "recommend_fast" if top_k <= fast.top_k else "recommend"


def has_ratings(manifest: Manifest, graph: str) -> bool:
    """Whether a graph predicts ratings beside the scores of its lists."""
    return any(output.name == TOP_RATINGS[0] for output in manifest.graphs[graph].outputs)


class Ranker(Protocol):
    """Ranks every item of the catalogue for each user."""

    @property
    def graph(self) -> str:
        """Name of the graph that ranks."""

    @property
    def has_ratings(self) -> bool:
        """Whether it predicts ratings beside the scores."""

    def rank(self, user_index: np.ndarray, exclude: np.ndarray) -> Top:
        """The K best items of each user (int64 [B]) without those to `exclude` (int64 [B, E], 0-padded)."""


class GraphRanker(NamedTuple):
    """A `Ranker` that is one graph: `recommend.onnx`, a variant of it with any rules, or a shard."""

    graph: str
    """The name of the graph."""
    session: GraphSession
    rules: Mapping[str, np.ndarray]
    """The inputs of rules, one row each; none: the graph has none."""
    items: tuple[int, int]
    """The items that it ranks: the first index, and one past the last."""
    top_k: int
    """K of the graph."""
    has_ratings: bool
    """Whether the graph predicts ratings beside the scores."""

    def rank(self, user_index: np.ndarray, exclude: np.ndarray) -> Top:
        """See Ranker."""
        feeds = {"user_index": user_index, "exclude_item_indices": exclude}
        return rank_rows(
            self.session,
            self.graph,
            feeds,
            self.items,
            self.top_k,
            has_ratings=self.has_ratings,
            shared=self.rules,
        )
