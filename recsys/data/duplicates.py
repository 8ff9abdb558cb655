"""Several ratings of one item by one user."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class Pairs:
    """The (user, item) pairs of n ratings, some of which occur more than once."""

    last: np.ndarray
    """int64 [n_pairs], ascending: position of each pair's latest rating; of equally late ones, the last in
    the source."""
    pair: np.ndarray
    """int64 [n]: number of each rating's pair."""
    counts: np.ndarray
    """int64 [n_pairs]: ratings of each pair, by number."""

    def mean_ratings(self, ratings: np.ndarray) -> np.ndarray:
        """Mean rating of each pair, float32 [n_pairs], in the order of `last`."""
        means = (np.bincount(self.pair, weights=ratings) / self.counts).astype(np.float32)
        means_of_last: np.ndarray = means[self.pair[self.last]]
        return means_of_last


def group_pairs(
    user_index: np.ndarray, item_index: np.ndarray, timestamps: np.ndarray | None
) -> Pairs | None:
    """Group ratings of int32 [n] users and items by pair; None: no pair occurs twice.

    `timestamps` are int64 [n]; None: the order of the source is the order in time.
    """
    if not _has_repeats(_keys(user_index, item_index)):
        return None
    _, pair, counts = np.unique(_keys(user_index, item_index), return_inverse=True, return_counts=True)
    time = np.arange(len(pair)) if timestamps is None else timestamps
    order = np.lexsort((time, pair))  # stable: equally late ratings stay in the order of the source
    is_last = np.diff(pair[order], append=len(counts)) != 0
    return Pairs(np.sort(order[is_last]), pair, counts)


def _keys(user_index: np.ndarray, item_index: np.ndarray) -> np.ndarray:
    """int64 [n], one number per pair."""
    key = user_index.astype(np.int64)
    key <<= 32
    key |= item_index
    return key


def _has_repeats(key: np.ndarray) -> bool:
    """Sorts `key` in place: at 25 million ratings, a copy would raise the peak of memory."""
    if (key[1:] > key[:-1]).all():  # in order of user and item, as MovieLens' larger files are
        return False
    key.sort()
    return bool((key[1:] == key[:-1]).any())
