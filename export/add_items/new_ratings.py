"""The ratings of a data set that a bundle's new items can be placed by."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pandas as pd

from export.add_items.item_rows import Rated
from export.errors import AdditionError
from export.model.arrays import Int64
from recsys.data.interactions import Interactions
from serve.bundle.ids import IdIndex
from serve.bundle.items import Catalogue

SHOWN = 5


@dataclass(frozen=True, eq=False)
class NewRatings:
    """Ratings of items that a bundle does not have, by users that it has. Sorted by item."""

    items: pd.DataFrame
    """The new items with a rating by a known user, as `Interactions.items`; ids of the bundle's type."""
    item: Int64
    """int64 [n], places in `items`"""
    user_index: Int64
    """int64 [n], the bundle's indices"""
    ratings: npt.NDArray[np.float32]
    """float32 [n]"""
    timestamps: Int64 | None
    """int64 [n], seconds since 1970"""
    n_unknown_users: int
    """Ratings of new items that were left out for their user."""
    n_known_items: int
    """Ratings that were left out for their item."""
    n_items_left_out: int
    """New items that only unknown users have rated."""

    def of_items(self) -> list[Rated]:
        """The ratings of each item."""
        starts = np.searchsorted(self.item, np.arange(len(self.items) + 1))
        return [Rated(self.user_index[start:end], self.ratings[start:end]) for start, end in pairwise(starts)]


def select(
    data: Interactions, users: IdIndex, items: Catalogue, ratings_range: tuple[float, float]
) -> NewRatings:
    """The ratings in `data` of items that are not in `items`, by users that are in `users`.

    Raises:
        AdditionError: ids of another type than the bundle's; no new item; no known user; ratings of new items
            off the scale.
    """
    user_ids = _typed(data.users["user_id"], users, data.name)
    item_ids = _typed(data.items["item_id"], items.ids, data.name)
    user_index = np.append(0, users.lookup(user_ids.to_numpy()))[data.user_index]
    is_new = np.append(False, items.ids.lookup(item_ids.to_numpy()) == 0)
    of_new = is_new[data.item_index]
    rows = np.flatnonzero(of_new & (user_index > 0))
    if not of_new.any():
        raise AdditionError(
            f"{data.name}: all {len(np.unique(data.item_index)):,} items that it rates are in the bundle "
            f"already, and their rows stay as they are. Train again to learn from new ratings of them."
        )
    if not len(rows):
        raise AdditionError(
            f"{data.name}: none of the {of_new.sum():,} ratings of new items is by a user of the bundle, "
            f"such as {users.first_id!r}. A new item is placed by what known users think of it."
        )
    _check_scale(data, rows, ratings_range)
    rows = rows[np.lexsort((user_index[rows], data.item_index[rows]))]
    added, place = np.unique(data.item_index[rows], return_inverse=True)
    return NewRatings(
        items=data.items.assign(item_id=item_ids).iloc[added - 1].reset_index(drop=True),
        item=place.astype(np.int64),
        user_index=user_index[rows].astype(np.int64),
        ratings=data.ratings[rows],
        timestamps=None if data.timestamps is None else data.timestamps[rows],
        n_unknown_users=int((of_new & (user_index == 0)).sum()),
        n_known_items=int((~of_new).sum()),
        n_items_left_out=len(np.unique(data.item_index[of_new])) - len(added),
    )


def _typed(ids: pd.Series, table: IdIndex, name: str) -> pd.Series:
    """The ids as the bundle has them: numbers become text where its ids are text."""
    if table.is_string:
        return ids.astype("str")
    if not pd.api.types.is_integer_dtype(ids.dtype):
        raise AdditionError(
            f"{name}: {table.name}s are text, such as {ids.iloc[-1]!r}; the bundle's are integers, such as "
            f"{table.one_id(1)}. One id that is no integer makes text of them all."
        )
    return ids


def _check_scale(
    data: Interactions, rows: npt.NDArray[np.integer], ratings_range: tuple[float, float]
) -> None:
    low, high = ratings_range
    if data.implicit and low < high:
        raise AdditionError(
            f"{data.name} has no ratings, and the bundle's are from {low:g} to {high:g}: name their column "
            f"with --rating-column."
        )
    wrong = rows[(data.ratings[rows] < low) | (data.ratings[rows] > high)]
    if len(wrong):
        shown = "\n  ".join(
            f"user {data.users['user_id'].iloc[data.user_index[row] - 1]}, "
            f"item {data.items['item_id'].iloc[data.item_index[row] - 1]}: {data.ratings[row]:g}"
            for row in wrong[:SHOWN]
        )
        more = f"\n  … and {len(wrong) - SHOWN:,} more" if len(wrong) > SHOWN else ""
        raise AdditionError(
            f"{data.name}: {len(wrong):,} ratings lie off the bundle's scale, {low:g} to {high:g}:\n  "
            f"{shown}{more}\nCorrect or remove them."
        )
