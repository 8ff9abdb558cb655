"""How far the cosine to a rarely rated item is shrunk, chosen by the held-out ratings."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from export.model.arrays import Float32
from export.model.similar_items import MIN_RATINGS, support
from recsys.models.sparse_matrix import SparseMatrix
from serve.bundle.manifest import SimilarItems

SHRINKAGES = (5.0, 10.0, 20.0, 50.0, 100.0)
# Where no held-out rating can choose.
DEFAULT_SHRINKAGE = 20.0
K = 10
# More hardly change the choice; a large catalogue has fewer, which bounds the memory.
N_ITEMS, N_USERS = 1000, 10_000
MAX_COSINES = 1 << 24


def choose_shrinkage(
    unit: Float32,
    user_index: npt.NDArray[np.integer],
    item_index: npt.NDArray[np.integer],
    held_out: npt.NDArray[np.bool_],
) -> SimilarItems:
    """The shrinkage whose neighbours are rated together most, one in training and the other held out.

    A neighbour j of item i counts c_ij / sqrt(n_i n_j), the cosine of their columns of ratings, with c_ij the
    number of users who rated i in training and j in the held-out part, and n all ratings of an item. The ten
    neighbours of up to a thousand items, drawn in proportion to their ratings, are counted.

    Args:
        unit: float32 [n_items + 1, F], the `directions` of the items.
        user_index: int [n]
        item_index: int [n]
        held_out: bool [n]
    """
    n_items = len(unit) - 1
    counts = np.bincount(item_index, minlength=n_items + 1)
    in_training = np.bincount(item_index[~held_out], minlength=n_items + 1)
    asked = np.unique(np.random.default_rng(4).permutation(item_index[~held_out])[:N_ITEMS])
    asked = asked[: max(1, MAX_COSINES // n_items)]
    if not held_out.any():
        return SimilarItems(shrinkage=DEFAULT_SHRINKAGE, min_ratings=MIN_RATINGS, held_out_cosine=None)
    together = _rated_together(asked, user_index, item_index, held_out, n_items)
    supports = {shrinkage: support(in_training, shrinkage) for shrinkage in SHRINKAGES}
    found = dict.fromkeys(SHRINKAGES, 0.0)
    for column, item in enumerate(asked):
        shared = together[:, column] / np.sqrt(counts[item] * np.maximum(counts, 1.0))
        cosines = unit @ unit[item]
        for shrinkage, supported in supports.items():
            scores = cosines * supported
            scores[[0, item]] = -np.inf
            best = np.argpartition(-scores, min(K, n_items - 1))[:K]
            found[shrinkage] += float(shared[best].sum()) / len(asked)
    best_shrinkage = max(found, key=lambda shrinkage: found[shrinkage])
    return SimilarItems(
        shrinkage=best_shrinkage,
        min_ratings=MIN_RATINGS,
        held_out_cosine=float(f"{found[best_shrinkage] / K:.6g}"),
    )


def _rated_together(
    asked: npt.NDArray[np.integer],
    user_index: npt.NDArray[np.integer],
    item_index: npt.NDArray[np.integer],
    held_out: npt.NDArray[np.bool_],
    n_items: int,
) -> Float32:
    """Users who rated an item in training and another in the held-out part: float32 [n_items + 1, asked]."""
    users = np.random.default_rng(5).permutation(np.unique(user_index[held_out]))[:N_USERS]
    place = np.full(int(user_index.max()) + 1, -1)
    place[users] = np.arange(len(users))
    column = np.full(n_items + 1, -1)
    column[asked] = np.arange(len(asked))
    user, item = place[user_index], column[item_index]
    known = torch.zeros(len(users), len(asked))
    rows = ~held_out & (user >= 0) & (item >= 0)
    known[user[rows], item[rows]] = 1
    rows = held_out & (user >= 0)
    later = SparseMatrix.of(
        torch.from_numpy(item_index[rows].astype(np.int64)),
        torch.from_numpy(user[rows]),
        torch.ones(int(rows.sum())),
        (n_items + 1, len(users)),
    )
    return later.times(known).numpy()
