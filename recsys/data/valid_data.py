"""Held-out ratings from a file of their own."""

from __future__ import annotations

import logging
from dataclasses import replace

import numpy as np
import pandas as pd

from recsys.data.interactions import Interactions
from recsys.data.splits import Split
from recsys.errors import DataError

log = logging.getLogger(__name__)


def with_valid_data(interactions: Interactions, valid: Interactions) -> tuple[Interactions, Split]:
    """Add the ratings of `valid` behind those of `interactions`, and hold them out.

    Pairs of both are taken out of the training. Ratings of `valid` whose user or item is not among those of
    `interactions` are left out, and a warning counts them. The result has times if both have.

    Raises:
        DataError: all ratings of one of the two are left out, or only one of the two has ratings at all.
    """
    if valid.implicit != interactions.implicit:
        without, other = (valid, interactions) if valid.implicit else (interactions, valid)
        raise DataError(f"{without.name} has no ratings, and {other.name} has: read both with --implicit.")
    users = _indices(interactions.users["user_id"], valid.users["user_id"])[valid.user_index]
    items = _indices(interactions.items["item_id"], valid.items["item_id"])[valid.item_index]
    known = (users > 0) & (items > 0)
    if not known.all():
        log.warning(
            f"{valid.name}: {np.count_nonzero(~known):,} of {len(valid):,} ratings are left out, "
            f"{np.count_nonzero(users == 0):,} by users and {np.count_nonzero(items == 0):,} of items that "
            f"{interactions.name} does not have"
        )
    users, items = users[known], items[known]
    pairs, held_out = (
        user_index.astype(np.int64) * (1 + interactions.n_items) + item_index
        for user_index, item_index in ((interactions.user_index, interactions.item_index), (users, items))
    )
    train = np.flatnonzero(~np.isin(pairs, held_out))
    if not len(held_out) or not len(train):
        raise DataError(
            f"{valid.name} and {interactions.name} leave {len(train):,} ratings to train on and "
            f"{len(held_out):,} to measure with: the first names users and items of the second, which has "
            f"other ratings, too."
        )
    low, high = interactions.ratings.min(), interactions.ratings.max()
    off = valid.ratings[known]
    off = off[(off < low) | (off > high)]
    if len(off):
        log.warning(
            f"{valid.name}: {len(off):,} ratings lie off the scale of {interactions.name}, {low:g} to "
            f"{high:g}, such as {off[0]:g}: no model predicts them"
        )
    timestamps = None
    if interactions.timestamps is not None and valid.timestamps is not None:
        timestamps = np.concatenate([interactions.timestamps[train], valid.timestamps[known]])
    merged = replace(
        interactions,
        user_index=np.concatenate([interactions.user_index[train], users]),
        item_index=np.concatenate([interactions.item_index[train], items]),
        ratings=np.concatenate([interactions.ratings[train], valid.ratings[known]]),
        timestamps=timestamps,
    )
    return merged, Split(np.arange(len(train)), np.arange(len(train), len(merged)))


def _indices(ids: pd.Series, others: pd.Series) -> np.ndarray:
    """Index among `ids` of each index into `others`; 0 for 0 and for unknown ids: int32 [1 + n_others]."""
    if ids.dtype != others.dtype:  # numbers in one file, text in the other
        ids, others = ids.astype("str"), others.astype("str")
    return np.concatenate([[0], 1 + pd.Index(ids).get_indexer(pd.Index(others))]).astype(np.int32)
