"""Splits of the ratings into a training part and a held-out part."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

from recsys.errors import ConfigError, DataError

if TYPE_CHECKING:  # not imported, because the help of commands must not wait for pandas
    from recsys.data.interactions import Interactions

Kind = Literal["random", "fold", "leave-last-out", "by-user"]

N_FOLDS = 5
FOLD_SIZE = 20_000
# Checksum of the users and times (int64) of MovieLens 100K's u.data, in the order that the folds depend on.
_U_DATA_SHA256 = "489fcf0c71b5d8b9396d542ee9bbcceaf37c54c149368a58131ce4dd1185ddea"


@dataclass(frozen=True)
class SplitRecipe:
    """The kind of a split and its parameters."""

    kind: Kind = "random"
    """What is held out. "random": random ratings. "fold": a fold of MovieLens 100K, u1 … u5.
    "leave-last-out": each user's latest rating. "by-user": all ratings of random users."""
    valid_fraction: float = 0.2
    """Fraction of the ratings ("random") or of the users ("by-user") that is held out."""
    seed: int = 42
    """Random seed of "random" and "by-user"."""
    fold: int | None = None
    """1 … 5, for "fold"."""

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise ConfigError(f"split kind {self.kind!r}: one of {', '.join(get_args(Kind))}.")
        if not 0 < self.valid_fraction < 1:
            raise ConfigError(f"valid_fraction {self.valid_fraction} is not between 0 and 1.")
        if self.seed < 0:
            raise ConfigError(f"seed {self.seed} is negative.")
        if (self.kind == "fold") != (self.fold is not None):
            raise ConfigError(
                f"split kind {self.kind!r} with fold {self.fold}: a fold goes with kind 'fold' only."
            )
        if self.fold is not None and not 1 <= self.fold <= N_FOLDS:
            raise ConfigError(f"fold {self.fold}: MovieLens 100K has folds 1 to {N_FOLDS}.")


@dataclass(frozen=True, eq=False)
class Split:
    """Positions into the ratings, ascending; together they are all positions, and neither is empty."""

    train: np.ndarray
    """int64 [n_train]."""
    valid: np.ndarray
    """int64 [n_valid]."""


def split(interactions: Interactions, recipe: SplitRecipe) -> Split:
    """Split ratings by a recipe. The same recipe and data give the same split on any machine.

    Raises:
        DataError: "leave-last-out" without timestamps, "fold" of other data than MovieLens 100K in its
            original order, or a part that would be empty.
    """
    n = len(interactions)
    held_out = np.zeros(n, bool)
    rng = np.random.default_rng(recipe.seed)
    match recipe.kind:
        case "random":
            held_out[rng.permutation(n)[: round(n * recipe.valid_fraction)]] = True
        case "by-user":
            users = np.unique(interactions.user_index)
            chosen = rng.permutation(users)[: round(len(users) * recipe.valid_fraction)]
            held_out = np.isin(interactions.user_index, chosen)
        case "leave-last-out":
            held_out[_last_ratings(interactions)] = True
        case "fold":
            assert recipe.fold is not None
            _check_folds(interactions)
            held_out[(recipe.fold - 1) * FOLD_SIZE : recipe.fold * FOLD_SIZE] = True
    valid, train = np.flatnonzero(held_out), np.flatnonzero(~held_out)
    if not len(valid) or not len(train):
        raise DataError(
            f"{interactions.name}: {n} ratings by {interactions.n_users} users are too few for {recipe}: "
            f"it leaves {len(train)} to train on and {len(valid)} to measure with."
        )
    return Split(train, valid)


def _last_ratings(interactions: Interactions) -> np.ndarray:
    """Position of each user's latest rating (of equally late ones, the last in the source), for users with at
    least two ratings.
    """
    if interactions.timestamps is None:
        raise DataError(
            f"{interactions.name} has no timestamps, which 'leave-last-out' needs. Use the split 'random'."
        )
    users = interactions.user_index
    order = np.lexsort((interactions.timestamps, users))  # stable: ties stay in the order of the source
    is_last = np.diff(users[order], append=0) != 0
    positions = order[is_last]
    counts = np.bincount(users)
    return np.compress(counts[users[positions]] > 1, positions)


def _check_folds(interactions: Interactions) -> None:
    user_ids, digest = interactions.users["user_id"].to_numpy(), hashlib.sha256()
    if interactions.timestamps is not None and user_ids.dtype == np.int64:
        digest.update(user_ids[interactions.user_index - 1].astype("<i8").tobytes())
        digest.update(interactions.timestamps.astype("<i8").tobytes())
    if digest.hexdigest() != _U_DATA_SHA256:
        raise DataError(
            f"{interactions.name} is not MovieLens 100K in its original order and keyed by id, for which the "
            f"folds are defined. Read it by the name ml-100k, or use the split 'random'."
        )
