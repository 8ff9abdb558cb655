"""The results of a `Recommender`: ranked items, and scores of pairs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True, eq=False)
class Ranking:
    """The best items, best first: one list, or one row for each id of a batch ("[B, …]")."""

    item_ids: np.ndarray
    """int64 or object (str) [k] or [B, k]; -1 or None past `count`."""
    item_indices: np.ndarray
    """int64 [k] or [B, k]; 0 past `count`."""
    scores: np.ndarray
    """float32 [k] or [B, k]; what orders the list (`manifest.model.lists`), or cosines; -1e30 beyond."""
    ratings: np.ndarray | None
    """float32 [k] or [B, k]; predicted ratings on the data's scale, -1e30 beyond; None: none."""
    known: Any
    """bool, or bool [B]: whether the id is in the bundle; if not, this is the average's list."""
    count: Any
    """int, or int64 [B]: number of items; less than k only where no more items were left."""


@dataclass(frozen=True, eq=False)
class Scores:
    """The scores of one pair, or of each."""

    scores: Any
    """float, or float32 [n]."""
    known: Any
    """bool, or bool [n]: whether user and item are both in the bundle."""
