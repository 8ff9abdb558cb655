"""Lists of the items that each user has rated."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np


@dataclass(frozen=True, eq=False)
class RatedItems:
    """Lists of any length, concatenated; user u's is `item_index[offsets[u]:offsets[u + 1]]`."""

    offsets: np.ndarray
    """int64 [2 + n_users]; user 0 (unknown) has an empty list."""
    item_index: np.ndarray
    """int64 [n]."""

    @classmethod
    def of(cls, user_index: np.ndarray, item_index: np.ndarray, n_users: int) -> Self:
        """Gather int [n] pairs into lists, each in the order of the pairs."""
        counts = np.bincount(user_index, minlength=1 + n_users)
        offsets = np.concatenate([[0], np.cumsum(counts)])
        return cls(offsets, item_index[np.argsort(user_index, kind="stable")].astype(np.int64))

    def lengths(self, user_index: np.ndarray) -> np.ndarray:
        """Length of each user's list: int [B] -> int64 [B]."""
        lengths: np.ndarray = self.offsets[user_index + 1] - self.offsets[user_index]
        return lengths

    def padded(self, user_index: np.ndarray) -> np.ndarray:
        """The users' lists: int [B] -> int64 [B, longest], 0-padded."""
        lengths = self.lengths(user_index)
        columns = np.arange(lengths.max(initial=0))
        inside = columns < lengths[:, None]  # [B, longest]
        result = np.zeros(inside.shape, dtype=np.int64)
        result[inside] = self.item_index[(self.offsets[user_index][:, None] + columns)[inside]]
        return result
