"""What happens where one user has rated one item more than once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

Policy = Literal["error", "last", "mean"]
POLICIES: tuple[Policy, ...] = get_args(Policy)


@dataclass(frozen=True, eq=False)
class Pairs:
    """The (user, item) pairs of n ratings, grouped where some occur more than once."""

    last: np.ndarray
    """int64 [n_pairs], ascending: the position of each pair's latest rating; of equally late ones, the
    last in the source."""
    repeated: np.ndarray
    """int64, ascending: the positions of all other ratings."""
    pair: np.ndarray
    """int64 [n]: position of each rating's pair in `last`."""


def group_pairs(
    user_index: np.ndarray, item_index: np.ndarray, timestamps: np.ndarray | None
) -> Pairs | None:
    """Group the ratings by pair; None where each pair is unique, the usual case, which is found out fast.

    Args:
        user_index: int32 [n].
        item_index: int32 [n].
        timestamps: int64 [n], or None: then the order of the source is the order in time.
    """
    if not _has_repeats(_keys(user_index, item_index)):
        return None
    key = _keys(user_index, item_index)
    time = np.arange(len(key)) if timestamps is None else timestamps
    order = np.lexsort((time, key))  # stable: equally late ratings stay in the order of the source
    starts = np.flatnonzero(np.diff(key[order], prepend=-1))
    ends = np.append(starts[1:], len(key)) - 1
    by_position = np.argsort(order[ends])
    rank = np.empty(len(starts), np.int64)
    rank[by_position] = np.arange(len(starts))
    pair = np.empty(len(key), np.int64)
    pair[order] = np.repeat(rank, np.diff(np.append(starts, len(key))))
    last = order[ends][by_position]
    return Pairs(last, np.setdiff1d(np.arange(len(key)), last, assume_unique=True), pair)


def mean_ratings(pairs: Pairs, ratings: np.ndarray) -> np.ndarray:
    """The mean rating of each pair, float32 [n_pairs], in the order of `pairs.last`."""
    sums = np.bincount(pairs.pair, weights=ratings, minlength=len(pairs.last))
    return (sums / np.bincount(pairs.pair, minlength=len(pairs.last))).astype(np.float32)


def _keys(user_index: np.ndarray, item_index: np.ndarray) -> np.ndarray:
    """int64 [n], one number a pair."""
    key = user_index.astype(np.int64)
    key <<= 32
    key |= item_index
    return key


def _has_repeats(key: np.ndarray) -> bool:
    """Sorts `key` in place: at 25 million ratings a copy would be what the peak of memory is made of."""
    if (key[1:] > key[:-1]).all():  # in order of user and item, as MovieLens' larger files are
        return False
    key.sort()
    return bool((key[1:] == key[:-1]).any())
