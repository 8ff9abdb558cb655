"""Variety: the candidates of a list in another order, less alike, less obvious, or of more categories.

The candidates are the K best items that a graph ranks (100 by default), after all exclusions and rules. Each
place of the list takes the candidate with the highest

    (1 - diversity) x relevance - diversity x the largest similarity to an item that was taken before,

which is maximal marginal relevance (Carbonell and Goldstein, SIGIR 1998). Relevance is the score; `surprise`
mixes it with how little known the item is. All terms are in standard deviations over the candidates, so that
nothing depends on the unit of the scores.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import numpy as np

from serve.errors import RequestError
from serve.runtime import item_facts
from serve.runtime.batching import Top
from serve.runtime.item_facts import ItemCategories

if TYPE_CHECKING:
    from serve.runtime.recommender import Recommender

# Users whose K candidates are held at once.
USERS_AT_ONCE = 4096
# Floats that are held at once for the users of a run (64 MiB).
FLOATS_AT_ONCE = 16 << 20
# Candidates whose pairs say how much similarities are spread.
N_SPREAD = 128
# Values that differ by less than this share of their size are equal.
NO_SPREAD = 1e-6


class Variety(msgspec.Struct, frozen=True, kw_only=True):
    """How the lists of a call differ from the K best items in order. `Variety()` changes nothing."""

    diversity: float = 0.0
    """Weight of being unlike the items above, 0 to 1."""
    surprise: float = 0.0
    """-1 to 1: towards items that few know and that the average user would not get, or below 0 towards the
    familiar; the rest of the weight is the score's."""
    max_per_category: int | None = None
    """At most so many items of one category (genre); more only where no other candidate is left. An item
    counts in each of its categories; without one it is never too many."""


def checked(variety: Variety | None) -> Variety | None:
    """The variety, or None where it changes nothing. Raises RequestError: a value is out of range."""
    if variety is None:
        return None
    value: Any
    for name, low in (("diversity", 0), ("surprise", -1)):
        value = getattr(variety, name)
        is_number = isinstance(value, int | float | np.number) and not isinstance(value, bool)
        if not (is_number and low <= value <= 1):  # so that NaN fails, too
            raise RequestError(f"{name} must be a number from {low} to 1, got {value!r:.80}")
    value = variety.max_per_category
    is_integer = isinstance(value, int | np.integer) and not isinstance(value, bool)
    if value is not None and not (is_integer and 1 <= value < 1 << 31):
        raise RequestError(f"max_per_category must be an integer from 1 on, got {value!r:.80}")
    return None if variety == Variety() else variety


def rerank_users(
    rank: Callable[[slice], Top], n_users: int, top_k: int, variety: Variety, recommender: Recommender
) -> Top:
    """The lists of any number of users in bounded memory; `rank` gives the K candidates of some of them."""
    first = rerank(rank(slice(0, USERS_AT_ONCE)), top_k, variety, recommender)
    if n_users <= USERS_AT_ONCE:
        return first
    top = Top.empty(first.graph, n_users, top_k, has_ratings=first.ratings is not None)
    top.fill(slice(0, USERS_AT_ONCE), first)
    for start in range(USERS_AT_ONCE, n_users, USERS_AT_ONCE):
        part = slice(start, start + USERS_AT_ONCE)
        top.fill(part, rerank(rank(part), top_k, variety, recommender))
    return top


def rerank(top: Top, top_k: int, variety: Variety, recommender: Recommender) -> Top:
    """The `top_k` chosen of the candidates, [B, K] each, with their own scores, which need no longer fall.

    Among equals, the item of the lower index is chosen. A list is shorter than `top_k` only where there are
    fewer candidates.

    Raises:
        RequestError: `max_per_category`, and the items have no categories.
        BundleError: the bundle lacks a table.
    """
    facts = _facts(variety, recommender)
    n_rows, k = top.indices.shape
    step = max(1, FLOATS_AT_ONCE // facts.floats(k))
    order = np.empty((n_rows, top_k), np.int64)
    for start in range(0, n_rows, step):
        rows = slice(start, start + step)
        order[rows] = Choices(top.indices[rows], top.scores[rows], variety, facts).places(top_k)
    indices, scores, ratings = (
        None if one is None else np.take_along_axis(one, order, axis=1) for one in top[:3]
    )
    assert indices is not None
    assert scores is not None
    return Top(indices, scores, ratings, top.graph)


class ItemFacts(NamedTuple):
    """What is known of the items, as far as a variety needs it."""

    directions: np.ndarray | None
    """float32 [n_items + 1, F], rows whose products are cosines; of `diversity`"""
    known: Sequence[np.ndarray]
    """[n_items + 1] each: how well known an item is, in any unit; of `surprise`"""
    categories: ItemCategories | None
    """Of `max_per_category`"""

    def floats(self, k: int) -> int:
        """About how many floats are held for a user with `k` candidates."""
        n = 8 * k
        if self.directions is not None:
            n += self.directions.shape[1] * k + 5 * min(k, N_SPREAD) ** 2
        if self.categories is not None:
            longest = int(np.diff(self.categories.starts).max(initial=1))
            n += 2 * longest * k + self.categories.n_categories
        return n


def _facts(variety: Variety, recommender: Recommender) -> ItemFacts:
    """From the tables of a bundle. Raises RequestError, BundleError: see `rerank`."""
    directions = item_facts.item_directions(recommender) if variety.diversity else None
    known: list[np.ndarray] = []
    if variety.surprise:
        average = item_facts.average_scores(recommender)
        known = [item_facts.log_popularity(recommender)] + ([] if average is None else [average])
    categories = None
    if variety.max_per_category is not None:
        categories = item_facts.item_categories(recommender)
        if not categories.n_categories:
            raise RequestError("max_per_category can't be used: the items of this bundle have no categories")
    return ItemFacts(directions, known, categories)


class Choices:
    """The choices among the candidates of some users, one place of the lists after the other.

    Args:
        indices: int64 [B, K], the candidates; 0 is padding.
        scores: float32 [B, K], falling.
        variety: What decides.
        facts: Of the items.
    """

    def __init__(self, indices: np.ndarray, scores: np.ndarray, variety: Variety, facts: ItemFacts) -> None:
        last = np.where(indices > 0, indices, np.iinfo(np.int64).max)
        self.rank = np.argsort(last, axis=1, kind="stable")
        """int64 [B, K]: the candidates by rising index, as places of the list"""
        items = np.take_along_axis(indices, self.rank, axis=1)
        self.left = items > 0
        """bool [B, K]: who can still be chosen, in the order of `rank`"""
        self._variety, self._rows = variety, np.arange(len(indices))
        self._relevance = -self.rank.astype(np.float64)
        if variety.diversity or variety.surprise:
            self._relevance = _standard(np.take_along_axis(scores, self.rank, axis=1), self.left)
        if variety.surprise:
            known = np.mean([_standard(one[items], self.left) for one in facts.known], axis=0)
            mixed = (1 - abs(variety.surprise)) * self._relevance - variety.surprise * known
            self._relevance = _standard(mixed, self.left)
        self._directions = None if facts.directions is None else facts.directions[items]  # [B, K, F]
        self.spread: np.ndarray | None = None
        """float64 [B, 1]: what cosines are multiplied by; None without `diversity`"""
        if self._directions is not None:
            self.spread = _spread(self._directions[:, :N_SPREAD], self.left[:, :N_SPREAD])
        self._closest: np.ndarray | None = None
        self._codes = None if facts.categories is None else facts.categories.padded(items)  # [B, K, M]
        n_categories = 0 if facts.categories is None else facts.categories.n_categories
        self._counts = np.zeros((len(indices), 1 + n_categories), np.int32)

    def values(self) -> np.ndarray:
        """What the next place goes by, in the order of `rank`: float64 [B, K], -inf of who can't have it."""
        value, diversity = self._relevance, self._variety.diversity
        if self._closest is not None:
            value = (1 - diversity) * value - diversity * self._closest
        return np.where(self._allowed(), value, -np.inf)

    def take(self, pick: np.ndarray) -> None:
        """Give the next place to a candidate of each user: int64 [B], columns of `values`."""
        self.left[self._rows, pick] = False
        if self._codes is not None:
            taken = self._codes[self._rows, pick]  # [B, M]
            np.add.at(self._counts, (self._rows[:, None], taken), 1)
            self._counts[:, 0] = 0
        if self._directions is not None and self.spread is not None:
            row = self._directions[self._rows, pick][:, :, None]
            new = np.matmul(self._directions, row)[:, :, 0] * self.spread
            self._closest = new if self._closest is None else np.maximum(self._closest, new)

    def places(self, top_k: int) -> np.ndarray:
        """The places in the list of the chosen candidates, in their new order: int64 [B, top_k]."""
        chosen = np.empty((len(self._rows), top_k), np.int64)
        for place in range(top_k):
            # In float32: candidates that differ by the rounding of float64 are equal.
            pick = self.values().astype(np.float32).argmax(axis=1)
            some = self.left.any(axis=1)
            # Where none is left, the list ends: this place of the K has no item either.
            chosen[:, place] = np.where(some, self.rank[self._rows, pick], place)
            self.take(pick)
        return chosen

    def _allowed(self) -> np.ndarray:
        """Those left who exceed the limit of a category the least: bool [B, K]."""
        most = self._variety.max_per_category
        if self._codes is None or most is None:
            return self.left
        of_items = self._counts[self._rows[:, None, None], self._codes].max(axis=2)  # [B, K]
        excess = np.where(self.left, np.maximum(of_items + 1 - most, 0), np.iinfo(np.int32).max)
        allowed: np.ndarray = self.left & (excess == excess.min(axis=1, keepdims=True))
        return allowed


def _standard(values: np.ndarray, left: np.ndarray) -> np.ndarray:
    """Values [B, K] less their mean over those left, in their standard deviations; 0 where all are equal."""
    values = np.where(left, values, 0).astype(np.float64)
    n = np.maximum(left.sum(axis=1, keepdims=True), 1)
    apart = np.where(left, values - values.sum(axis=1, keepdims=True) / n, 0.0)
    deviation = np.sqrt(np.square(apart).sum(axis=1, keepdims=True) / n)
    is_spread = deviation > NO_SPREAD * np.abs(values).max(axis=1, keepdims=True, initial=0.0)
    return np.where(is_spread, apart / np.where(is_spread, deviation, 1.0), 0.0)


def _spread(directions: np.ndarray, left: np.ndarray) -> np.ndarray:
    """One over the standard deviation of the cosines of pairs of candidates: float64 [B, 1], 0 if it is 0."""
    cosines = np.matmul(directions, directions.transpose(0, 2, 1)).astype(np.float64)
    pairs = np.triu(left[:, :, None] & left[:, None, :], 1)
    n = np.maximum(pairs.sum(axis=(1, 2)), 1)
    mean = np.where(pairs, cosines, 0.0).sum(axis=(1, 2)) / n
    square = np.where(pairs, np.square(cosines - mean[:, None, None]), 0.0).sum(axis=(1, 2)) / n
    deviation = np.sqrt(square)
    is_spread = deviation > NO_SPREAD
    return np.where(is_spread, 1 / np.where(is_spread, deviation, 1.0), 0.0)[:, None]
