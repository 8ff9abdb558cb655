"""What an export is made from: one record, whether a run, a bundle or anything else gave it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from export.model.arrays import Arrays, Float32, Float64, Int64
from export.model.id_tables import IdTables
from serve.bundle.manifest import FoldIn

# Users whose scores say how wide the scores of a model without bounds are.
N_SPAN_USERS = 8


@dataclass(frozen=True, eq=False)
class SeenRatings:
    """Every rating, sorted by user, then item."""

    user_index: Int64
    """int64 [n]"""
    item_index: Int64
    """int64 [n]"""
    ratings: Float32
    """float32 [n]"""

    @classmethod
    def of(
        cls, user_index: npt.NDArray[np.integer], item_index: npt.NDArray[np.integer], ratings: Float32
    ) -> SeenRatings:
        """From ratings in any order, [n] each."""
        order = np.lexsort((item_index, user_index))
        return cls(user_index[order].astype(np.int64), item_index[order].astype(np.int64), ratings[order])

    def of_user(self, user: int) -> tuple[Int64, Float32]:
        """Items int64 [H], rising, and ratings float32 [H]."""
        place = slice(*np.searchsorted(self.user_index, [user, user + 1]))
        return self.item_index[place], self.ratings[place]


@dataclass(frozen=True, eq=False)
class History:
    """What one user is folded in from, and what the folded-in user is judged by."""

    item_indices: Int64
    """int64 [H], rated items"""
    ratings: Float32
    """float32 [H]"""
    held_out_indices: Int64
    """int64 [M], at least one; none where it is made up"""
    held_out_ratings: Float32
    """float32 [M]"""


@dataclass(frozen=True, eq=False)
class Sample:
    """What the graphs are asked when they are verified, drawn once."""

    pairs: tuple[Int64, Int64]
    """user and item index, int64 [N] each: held-out pairs, and pairs with index 0"""
    ratings: Float32
    """float32 [N], NaN where the pair has no held-out rating"""
    users: Int64
    """int64 [B], index 0 among them"""
    exclude: Int64
    """int64 [B, E], 0-padded: what these users have rated"""
    items: Int64
    """int64 [B], index 0 among them"""
    histories: list[History]
    """At least one."""

    def head(self, n: int) -> Sample:
        """The first n of everything."""
        pairs = (self.pairs[0][:n], self.pairs[1][:n])
        return Sample(
            pairs, self.ratings[:n], self.users[:n], self.exclude[:n], self.items[:n], self.histories[:n]
        )


@dataclass(frozen=True, eq=False)
class ExportInputs:
    """A model, what is known of its users, and what was asked for: what every graph is made and judged by."""

    module: nn.Module
    """The torch module, in eval mode; `forward(user_index, item_index) -> score`"""
    arrays: Arrays
    """The same model"""
    seen: SeenRatings
    sample: Sample
    top_k: int
    """K of the ranking graphs, at most the number of items"""
    scores: Literal["ratings", "ranking"]
    """What a score is: a predicted rating, or a number that orders items and means nothing else"""
    score_scale: tuple[float, float] | None
    """The scale of scores that are ratings; None where they are not"""
    ids: IdTables | None = None
    """What `recommend_by_id.onnx` holds; None: no such graph"""
    fold_in: FoldIn | None = None
    """What `fold_in.onnx` solves; None: no such graph"""
    left_out: Mapping[str, str] = field(default_factory=dict)
    """graph -> why it can't be made"""

    @cached_property
    def score_span(self) -> float:
        """How wide scores spread: what tolerances are shares of.

        The width of the scale, or the largest size of a score where that is more: float32 rounds in
        proportion to it. Scores of a model without bounds are looked at.
        """
        known = [] if self.score_scale is None else list(self.score_scale)
        if self.arrays.y_range is None:
            users = np.unique(np.linspace(0, self.arrays.n_users, N_SPAN_USERS).astype(np.int64))
            found = self.arrays.scores64(users)
            known += [float(found.min()), float(found.max())]
        span = max(max(known) - min(known), max(map(abs, known)))
        # Six digits hide the last bit of a machine's float64 sums.
        return float(f"{span:.6g}") or 1.0

    def torch_scores(self, users: Int64) -> Float64:
        """Scores of the module for every item, one pair at a time: int64 [B] -> float64 [B, n_items + 1]."""
        items = torch.arange(self.arrays.n_items + 1)
        with torch.inference_mode():
            rows = [
                self.module(torch.full((len(items),), int(user)), items).double().numpy() for user in users
            ]
        return np.stack(rows)

    @property
    def example_users(self) -> Int64:
        """The first, the middle and the last user: whom the conformance cases ask for."""
        n_users = self.arrays.n_users
        return np.unique(np.array([1, (n_users + 1) // 2, n_users], np.int64))

    @property
    def example_items(self) -> Int64:
        """The first, the middle and the last item."""
        n_items = self.arrays.n_items
        return np.unique(np.array([1, (n_items + 1) // 2, n_items], np.int64))

    def example_history(self, user: int) -> tuple[Int64, Float32]:
        """A few of a user's ratings, so that `conformance.json` stays small: int64 [H], float32 [H]."""
        items, ratings = self.seen.of_user(user)
        return items[:10], ratings[:10]
