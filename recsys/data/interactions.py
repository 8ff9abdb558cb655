"""Ratings as the rest of the toolkit sees them: ids outside, indices inside."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd


@dataclass(frozen=True, eq=False)
class Interactions:
    """Who rated what, and how high.

    Index i >= 1 stands for the i-th row of `users` or `items`; index 0 means "unknown" and is never used
    by a rating. `n` is the number of ratings; they keep the order of the source. Each (user, item) pair
    occurs once. The index of an id is its rank among the sorted ids, so it does not depend on that order.
    """

    name: str
    """The data set's name, or the file's name without its ending."""
    sha256: str
    """Checksum of the file that was read; for a folder, of the checksums (hex) of the files in it that were
    read, joined in order of name."""
    licence: str
    """The data's own terms in one line; "unknown" where its source names none."""
    item_key: str
    """"id", or "title" where items with the same title were merged, as the course notes do."""
    users: pd.DataFrame
    """`user_id` (int64 or str), in index order."""
    items: pd.DataFrame
    """`item_id` (int64 or str), in index order; where known also `title` (str), `genres` (str, "|" between
    two), `year` (Int64). Items that nobody has rated are listed too."""
    user_index: np.ndarray
    """int32 [n], from 1."""
    item_index: np.ndarray
    """int32 [n], from 1."""
    ratings: np.ndarray
    """float32 [n], finite."""
    timestamps: np.ndarray | None
    """int64 [n], seconds since 1970; None where the data has none."""

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
