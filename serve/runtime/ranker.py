"""Rankers: users and exclusions in, each user's best items out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np

from serve.runtime.batching import Top, rank_rows

if TYPE_CHECKING:
    from onnxruntime import InferenceSession


class Ranker(Protocol):
    """Ranks every item of the catalogue for each user."""

    @property
    def has_ratings(self) -> bool:
        """Whether it predicts ratings beside the scores."""

    def rank(self, user_index: np.ndarray, exclude: np.ndarray) -> Top:
        """The K best items of each user (int64 [B]) without those to `exclude` (int64 [B, E], 0-padded)."""


class GraphRanker(NamedTuple):
    """A `Ranker` that is one graph: `recommend.onnx`, or `recommend_filtered.onnx` with its rules."""

    session: InferenceSession
    graph: str
    rules: Mapping[str, np.ndarray]
    """The inputs of rules, one row each; none: the graph has none."""
    n_items: int
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
            self.n_items,
            self.top_k,
            has_ratings=self.has_ratings,
            shared=self.rules,
        )
