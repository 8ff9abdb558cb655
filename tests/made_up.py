"""Made-up ratings between indices, for tests of reading, training, export and evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from recsys.data.interactions import Interactions


def interactions(
    user_index: Any,
    item_index: Any,
    ratings: Any,
    *,
    users: Sequence[Any] | np.ndarray | None = None,
    items: Sequence[Any] | np.ndarray | pd.DataFrame | None = None,
    timestamps: np.ndarray | None = None,
    name: str = "made up",
    sha256: str = "0" * 64,
) -> Interactions:
    """Ratings [n] of indices [n], which count from 1. Ids, in index order, are 1, 2, … by default."""
    users = np.arange(1, 1 + max(user_index)) if users is None else users
    items = np.arange(1, 1 + max(item_index)) if items is None else items
    return Interactions(
        name=name,
        sha256=sha256,
        licence="none",
        item_key="id",
        users=pd.DataFrame({"user_id": users}),
        items=items if isinstance(items, pd.DataFrame) else pd.DataFrame({"item_id": items}),
        user_index=np.asarray(user_index, np.int32),
        item_index=np.asarray(item_index, np.int32),
        ratings=np.asarray(ratings, np.float32),
        timestamps=timestamps,
    )
