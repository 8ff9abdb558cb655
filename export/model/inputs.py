"""What an export is made from: one record, whether a run or a bundle provides it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from export.model.arrays import Arrays, Float32, Float64, Int64
from export.model.item_columns import ItemColumns
from export.model.packed_table import PackedTable
from export.model.side_by_side import SideBySide
from export.model.similar_items import directions, similar_rows
from recsys.models.scoring import PAIRS_AT_ONCE, item_scorer, score_pairs
from serve.bundle.explain import Explain
from serve.bundle.manifest import FoldIn, ListFoldIn, SimilarItems
from serve.bundle.packing import Precision
from serve.runtime.validation import padded

# Users whose scores are computed to find the span of a model without bounds.
N_SPAN_USERS = 8

IdArray = npt.NDArray[Any]


class Ratings(NamedTuple):
    """Ratings of one user, or predictions to compare: items int64 [H] and ratings float32 [H]."""

    item_indices: Int64
    ratings: Float32


class FoldInHistory(NamedTuple):
    """A user to fold in."""

    known: Ratings
    """What the user is folded in from."""
    held_out: Ratings
    """What the folded-in user is judged by; empty in a made-up history."""


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

    def of_user(self, user: int) -> Ratings:
        """The ratings of a user, by rising item."""
        place = slice(*np.searchsorted(self.user_index, [user, user + 1]))
        return Ratings(self.item_index[place], self.ratings[place])


@dataclass(frozen=True, eq=False)
class Sample:
    """Inputs of the graphs when they are verified."""

    pairs: tuple[Int64, Int64]
    """user and item index, int64 [N] each; index 0 among both"""
    ratings: Float32
    """float32 [N], NaN where the pair has no held-out rating"""
    users: Int64
    """int64 [B], index 0 among them"""
    exclude: Int64
    """int64 [B, E], 0-padded: what these users have rated"""
    items: Int64
    """int64 [B], index 0 among them"""
    histories: Sequence[FoldInHistory]
    """At least one."""

    @classmethod
    def of(
        cls,
        seen: SeenRatings,
        users: Int64,
        items: Int64,
        pairs: tuple[Int64, Int64],
        ratings: Float32 | None,
        histories: Sequence[FoldInHistory],
    ) -> Sample:
        """From users [B], items [B], and pairs [N] with any held-out ratings [N]; adds index 0 to each."""
        if ratings is None:
            ratings = np.full(len(pairs[0]), np.nan, np.float32)
        users = np.append(0, users)
        return cls(
            # Pairs with "unknown" on either side, and on both.
            pairs=(np.append([0, 0, 1], pairs[0]), np.append([0, 1, 0], pairs[1])),
            ratings=np.append(np.full(3, np.nan, np.float32), ratings),
            users=users,
            exclude=padded([seen.of_user(user).item_indices for user in users.tolist()], np.int64),
            items=np.append(0, items),
            histories=histories,
        )

    def head(self, n: int) -> Sample:
        """The first n of everything."""
        pairs = (self.pairs[0][:n], self.pairs[1][:n])
        return Sample(
            pairs, self.ratings[:n], self.users[:n], self.exclude[:n], self.items[:n], self.histories[:n]
        )


@dataclass(frozen=True, eq=False)
class IdTables:
    """Ids and titles in `recommend_by_id.onnx`. Ids are int64, or str in an object array."""

    user_ids: IdArray
    """[n_users]; the first is the id of index 1, or of `user_rows[0]`"""
    item_ids: IdArray
    """[n_items]"""
    titles: Sequence[str] | None
    """[n_items], "" where an item has none; None where the data has no titles"""
    user_rows: Int64 | None = None
    """Indices of `user_ids`, rising, where users were forgotten; None: 1 to n_users"""

    @property
    def no_item(self) -> int | str:
        """The id of an empty place in a list, and the padding of `exclude_item_ids`: -1, or ""."""
        return "" if is_string(self.item_ids) else -1

    def users(self, user_index: Int64) -> IdArray:
        """Ids at indices [B], none of a forgotten user; at 0 an id that is not in the table."""
        unknown: int | str = "unknown" if is_string(self.user_ids) else -1
        while unknown in set(self.user_ids.tolist()):
            unknown = f"{unknown}?" if isinstance(unknown, str) else unknown - 1
        if self.user_rows is not None:
            user_index = np.where(user_index > 0, 1 + self.user_rows.searchsorted(user_index), 0)
        return _with_row_0(self.user_ids, unknown)[user_index]

    def items(self, item_index: Int64) -> IdArray:
        """Ids at indices of any shape; `no_item` at 0."""
        return _with_row_0(self.item_ids, self.no_item)[item_index]

    def titles_of(self, item_index: Int64) -> IdArray | None:
        """Titles at indices of any shape; "" at 0. None where the data has no titles."""
        return None if self.titles is None else np.array(["", *self.titles], object)[item_index]


def is_string(ids: IdArray) -> bool:
    """Whether ids are text."""
    return ids.dtype.kind not in "iu"


def _with_row_0(ids: IdArray, row_0: int | str) -> IdArray:
    return np.concatenate([np.array([row_0], object if is_string(ids) else np.int64), ids])


@dataclass(frozen=True, eq=False)
class ExportInputs:
    """A model, its ratings, and the options of an export: what graphs are made from and compared with."""

    module: nn.Module
    """The torch module of the scores, in eval mode; `forward(user_index, item_index) -> score`"""
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
    similar: SimilarItems
    """How similar items are ranked"""
    item_support: Float32
    """float32 [n_items + 1], what `similar` makes of the items' training ratings"""
    ids: IdTables | None = None
    """Tables of `recommend_by_id.onnx`; None: no such graph"""
    fast: bool = False
    """Whether to make `recommend_fast.onnx`"""
    n_shards: int = 0
    """Shards that the catalogue is cut into; 0: none, and `recommend.onnx` ranks all items"""
    columns: ItemColumns | None = None
    """What rules can ask of the items; None: no graphs with rules"""
    ranking_module: nn.Module | None = None
    """The torch module that orders the lists; None: that of the scores"""
    ranking: SideBySide | None = None
    """The same model; None where the scores order the lists, and for an MLP"""
    fold_in: FoldIn | None = None
    """The ridge that predicts the ratings of a new user; None: they are not predicted"""
    list_fold_in: ListFoldIn | None = None
    """How a new user's list is ranked where `ranking` orders the lists"""
    explain: Explain | None = None
    """How `explain.onnx` solves; None: no such graph"""
    categories: npt.NDArray[np.uint8] | None = None
    """uint8 [n_items + 1, C], 1 where an item is of a category, for `variety.onnx`; None: no such graph"""
    left_out: Mapping[str, str] = field(default_factory=dict)
    """graph that can't be made -> why"""
    precision: Precision = "float32"
    """Of the tables with a row for each user or item; the model has been rounded to it"""
    packed: Mapping[str, PackedTable] = field(default_factory=dict)
    """name of a table -> how graphs hold it; none: as float32"""
    item_directions: Float32 | None = None
    """float32 [n_items + 1, F], packed rows for cosines; None: those that follow from the model"""
    known_users: Int64 | None = None
    """Indices of users who were not forgotten, rising; None: 1 to n_users"""

    def with_list_fold_in(self, settings: ListFoldIn) -> ExportInputs:
        """The same with other settings of a new user's list."""
        return replace(self, list_fold_in=settings)

    @property
    def lists(self) -> Arrays:
        """The model that orders the lists."""
        return self.arrays if self.ranking is None else self.ranking

    @property
    def rates_lists(self) -> bool:
        """Whether a list has predicted ratings beside the scores that order it."""
        return self.ranking is not None and self.scores == "ratings"

    @cached_property
    def unit_rows(self) -> Float32:
        """Rows whose products are the cosines of items, float32 [n_items + 1, F]; packed or not."""
        if self.item_directions is not None:
            return self.item_directions
        return directions(similar_rows(self.lists))

    @cached_property
    def score_span(self) -> float:
        """Width of the scores, which tolerances are shares of; see `_span`."""
        return _span(self.arrays, self.score_scale)

    @cached_property
    def list_span(self) -> float:
        """Width of the scores that order the lists, likewise."""
        return self.score_span if self.ranking is None else _span(self.ranking, None)

    @cached_property
    def order_span(self) -> float:
        """Width of what orders the lists, before the user's bias and the range."""
        return _span(self.lists.ordering, None)

    def torch_ratings(self, users: Int64, listed: Int64) -> Float64:
        """The module's scores of lists: users int64 [B], items int64 [B, K] -> float64 [B, K]."""
        return _torch_scores_of(self.module, users, listed)

    def torch_list_scores(self, users: Int64, listed: Int64) -> Float64:
        """What the lists of users are compared with: int64 [B], int64 [B, K] -> float64 [B, n_items + 1].

        Listed items have the score that the ranking module gives to their pair. The others, which say whether
        better ones are missing, are scored all at once: pair by pair, a module copies its item table for each
        user.
        """
        module, n_items = self.ranking_module or self.module, self.arrays.n_items
        scorer = item_scorer(module, n_items)
        scores = np.empty((len(users), n_items + 1))
        with torch.inference_mode():
            at_once = max(1, PAIRS_AT_ONCE // (n_items + 1))
            for start in range(0, len(users), at_once):
                part = users[start : start + at_once]
                scores[start : start + at_once] = scorer(torch.from_numpy(part)).numpy()
        if len(listed) == len(users):  # a damaged graph may list anything
            listed = np.clip(listed, 0, n_items)
            np.put_along_axis(scores, listed, _torch_scores_of(module, users, listed), axis=1)
        return scores

    @property
    def example_users(self) -> Int64:
        """The users of the conformance cases: the first, the middle and the last who are known."""
        if self.known_users is not None:
            return self.known_users[_examples(len(self.known_users)) - 1]
        return _examples(self.arrays.n_users)

    @property
    def example_items(self) -> Int64:
        """The items of the conformance cases, likewise."""
        return _examples(self.arrays.n_items)

    def example_history(self, user: int) -> Ratings:
        """Ten of a user's ratings at most, so that `conformance.json` stays small."""
        items, ratings = self.seen.of_user(user)
        return Ratings(items[:10], ratings[:10])


def _span(arrays: Arrays, scale: tuple[float, float] | None) -> float:
    """The width of the scale, or the largest absolute score where that is more: float32 rounds in proportion
    to it. In a model without bounds, the scores of a few users count too.
    """
    known = list(scale or ())
    if arrays.y_range is None:
        users = np.unique(np.linspace(0, arrays.n_users, N_SPAN_USERS).astype(np.int64))
        found = arrays.scores64(users)
        known += [float(found.min()), float(found.max())]
    span = max(max(known) - min(known), max(map(abs, known)))
    # Six digits hide the last bit of float64 sums, which differs between machines.
    return float(f"{span:.6g}") or 1.0


def _torch_scores_of(module: nn.Module, users: Int64, listed: Int64) -> Float64:
    pairs = np.repeat(users, listed.shape[1]), listed.ravel()
    return score_pairs(module, *pairs).astype(np.float64).reshape(listed.shape)


def _examples(n: int) -> Int64:
    return np.unique(np.array([1, (n + 1) // 2, n], np.int64))
