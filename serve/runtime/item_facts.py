"""What variety asks of the items, from tables and files that every bundle has; loaded at the first use."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from serve.bundle.item_rules import categories_of
from serve.errors import BundleError

if TYPE_CHECKING:
    from serve.runtime.recommender import Recommender


class ItemCategories(NamedTuple):
    """The categories of the items as codes from 1; 0 is padding."""

    codes: np.ndarray
    """int32 [n], those of item after item"""
    starts: np.ndarray
    """int64 [n_items + 2]: those of item i are `codes[starts[i]:starts[i + 1]]`"""
    n_categories: int

    @classmethod
    def of(cls, cells: Sequence[str | None]) -> ItemCategories:
        """From cells such as "Comedy|Romance", in index order from item 1."""
        known: dict[str, int] = {}
        lists = [[known.setdefault(name, 1 + len(known)) for name in categories_of(cell)] for cell in cells]
        starts = np.zeros(len(cells) + 2, np.int64)
        starts[2:] = np.cumsum([len(row) for row in lists])
        codes = np.array([code for row in lists for code in row], np.int32)
        return cls(codes, starts, len(known))

    def padded(self, items: np.ndarray) -> np.ndarray:
        """Those of items int64 [B, K]: int32 [B, K, M], 0-padded, M at least 1."""
        first, n = self.starts[items], self.starts[items + 1] - self.starts[items]
        places = np.arange(max(1, int(n.max(initial=0))))
        there = places < n[..., None]
        if not len(self.codes):
            return np.zeros(there.shape, np.int32)
        found = self.codes[np.minimum(first[..., None] + places, len(self.codes) - 1)]
        return np.where(there, found, 0).astype(np.int32)


def item_categories(recommender: Recommender) -> ItemCategories:
    """The categories (genres) of the items; without any where the data has none."""

    def make() -> ItemCategories:
        items = recommender.items
        return ItemCategories.of(items.genres or [None] * len(items))

    return recommender.part("item_categories", make)


def item_directions(recommender: Recommender) -> np.ndarray:
    """Rows of length 1 whose products are the cosines of `similar_items`: float32 [n_items + 1, F].

    Raises BundleError: the bundle has no such table.
    """
    return recommender.part("item_directions", lambda: table(recommender, "item_directions", "items"))


def log_popularity(recommender: Recommender) -> np.ndarray:
    """Logarithm of 1 + the training ratings of each item: float64 [n_items + 1]; 0 with fewer than three.

    From `item_support`, n / (n + shrinkage). Raises BundleError: the bundle has no such table.
    """

    def make() -> np.ndarray:
        similar = recommender.manifest.similar_items
        support = table(recommender, "item_support", "items")[:, 0]
        return log_popularity_of(support, 0.0 if similar is None else similar.shrinkage)

    return recommender.part("log_popularity", make)


def log_popularity_of(support: np.ndarray, shrinkage: float) -> np.ndarray:
    """The same from `item_support`, float32 [n_items + 1], and the shrinkage in it."""
    if shrinkage <= 0:  # nobody knows how often the items were rated
        return np.zeros(len(support))
    known = np.clip(support.astype(np.float64), 0, 1 - 1e-7)
    popularity: np.ndarray = np.log1p(shrinkage * known / (1 - known))
    return popularity


def average_scores(recommender: Recommender) -> np.ndarray | None:
    """What the average user's list would give each item: float32 [n_items + 1]; None: see `list_scores`."""
    every = np.arange(recommender.manifest.model.n_items + 1)
    return recommender.part("average_scores", lambda: list_scores(recommender, 0, every))


def list_scores(recommender: Recommender, user_index: int, item_index: np.ndarray) -> np.ndarray | None:
    """The scores that order a user's list, of any items: int64 [n] -> float32 [n].

    None where only a list has them: of a network that ranks beside a part that predicts ratings.

    Raises BundleError: a table is not what the manifest says.
    """
    model = recommender.manifest.model
    if model.ranking is not None:
        row = table(recommender, "ranking_user_factors", "users")[user_index]
        items = table(recommender, "ranking_item_factors", "items")[item_index]
        if row.shape != items.shape[1:]:
            raise BundleError(f"{recommender.bundle.path}: the tables that rank differ in their columns")
        scores: np.ndarray = items @ row
        if any(one.name == "ranking_item_biases" for one in recommender.manifest.tables):
            scores = scores + table(recommender, "ranking_item_biases", "items")[item_index, 0]
        return scores
    if model.lists != model.scores:
        return None
    return recommender.score_indices(np.full(len(item_index), user_index), item_index)


def table(recommender: Recommender, name: str, side: str) -> np.ndarray:
    """A table of floats with a row for each user or item. Raises BundleError: there is no such table."""
    model = recommender.manifest.model
    n_rows = 1 + (model.n_users if side == "users" else model.n_items)
    found = recommender.bundle.table(name)
    if found.ndim != 2 or len(found) != n_rows or not found.shape[1] or found.dtype.kind != "f":
        raise BundleError(
            f"{recommender.bundle.path}: {name!r} is {found.dtype} {found.shape}, not floats of {n_rows} rows"
        )
    return found if found.dtype == np.float32 else found.astype(np.float32)
