"""Ratings between indices, and the ids that the indices stand for."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd


@dataclass(frozen=True, eq=False)
class Interactions:
    """The ratings of a data set.

    Index i >= 1 is the i-th row of `users` or `items`, the rank of the id among the sorted ids; index 0 is
    "unknown" and has no rating. The n ratings keep the order of the source; each (user, item) pair occurs
    once.
    """

    name: str
    """The data set's name, or the file's name without its ending."""
    sha256: str
    """Checksum of the file; of a folder: of the joined checksums (hex) of the files that were read, in order
    of name."""
    licence: str
    """Terms of the data in one line, or "unknown"."""
    item_key: str
    """"id", or "title": items with the same title are merged."""
    users: pd.DataFrame
    """`user_id` (int64 or str), in index order; further columns are features: numbers, or text that is a
    category or several separated by "|"."""
    items: pd.DataFrame
    """`item_id` (int64 or str), in index order; if known also `title` (str), `genres` (str, separated by
    "|"), `year` (Int64), and further features. Items without a rating are listed too."""
    user_index: np.ndarray
    """int32 [n], from 1."""
    item_index: np.ndarray
    """int32 [n], from 1."""
    ratings: np.ndarray
    """float32 [n], finite."""
    timestamps: np.ndarray | None
    """int64 [n], seconds since 1970; or None."""
    implicit: bool = False
    """Whether there are no ratings, only what users chose (likes, purchases, plays); `ratings` are 1 then."""

    @property
    def n_users(self) -> int:
        """Number of users, row 0 not counted."""
        return len(self.users)

    @property
    def n_items(self) -> int:
        """Number of items, row 0 not counted."""
        return len(self.items)

    def __len__(self) -> int:
        """Number of ratings."""
        return len(self.ratings)
