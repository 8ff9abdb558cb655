"""Splits of the ratings into a training part and a held-out part."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

from recsys.errors import ConfigError, DataError

if TYPE_CHECKING:  # not imported, because the help of commands must not wait for pandas
    from recsys.data.interactions import Interactions

Kind = Literal[
    "random",
    "stratified",
    "stratified-by-item",
    "chronological",
    "leave-last-out",
    "by-user",
    "fold",
    "valid-data",
]
WITH_FRACTION = ("random", "stratified", "stratified-by-item", "chronological", "by-user")
"""The kinds that hold out a fraction of the ratings or users; 0 holds out nothing."""

GIVEN_SHARE = 0.8
"""Share of the ratings of users held out whole that they are folded in from."""
N_FOLDS = 5
FOLD_SIZE = 20_000
# Checksum of the users and times (int64) of MovieLens 100K's u.data, in the order that the folds depend on.
_U_DATA_SHA256 = "489fcf0c71b5d8b9396d542ee9bbcceaf37c54c149368a58131ce4dd1185ddea"


@dataclass(frozen=True)
class SplitRecipe:
    """The kind of a split and its parameters."""

    kind: Kind = "random"
    """What is held out. "random": random ratings. "stratified": random ratings of each user;
    "stratified-by-item": of each item. "chronological": the latest of all ratings. "leave-last-out": each
    user's latest rating. "by-user": all ratings of random users. "fold": a fold of MovieLens 100K, u1 … u5.
    "valid-data": a file of its own."""
    valid_fraction: float = 0.2
    """Fraction that is held out, for the kinds in `WITH_FRACTION`: of the users for "by-user", of the ratings
    for the others. 0: nothing is held out."""
    seed: int = 42
    """Random seed."""
    fold: int | None = None
    """1 … 5, for "fold"."""
    valid_data: str | None = None
    """SHA-256 of the held-out file, for "valid-data"."""

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise ConfigError(f"split kind {self.kind!r}: one of {', '.join(get_args(Kind))}.")
        if not 0 <= self.valid_fraction < 1:
            raise ConfigError(f"valid_fraction {self.valid_fraction} is not from 0 to below 1.")
        if self.seed < 0:
            raise ConfigError(f"seed {self.seed} is negative.")
        if self.kind.startswith("stratified") and self.seed >= 1 << 32:
            raise ConfigError(f"seed {self.seed}: a {self.kind} split takes seeds below 2^32.")
        if (self.kind == "fold") != (self.fold is not None):
            raise ConfigError(
                f"split kind {self.kind!r} with fold {self.fold}: a fold goes with kind 'fold' only."
            )
        if self.fold is not None and not 1 <= self.fold <= N_FOLDS:
            raise ConfigError(f"fold {self.fold}: MovieLens 100K has folds 1 to {N_FOLDS}.")
        if (self.kind == "valid-data") != (self.valid_data is not None):
            raise ConfigError(
                f"split kind {self.kind!r} {'without' if self.valid_data is None else 'with'} a held-out "
                f"file: --valid-data FILE goes with the split 'valid-data', and with no other."
            )

    @property
    def in_words(self) -> str:
        """As it is asked for: "--split random --valid-fraction 0.2"."""
        share = f" --valid-fraction {self.valid_fraction:g}" if self.kind in WITH_FRACTION else ""
        return f"--split {self.kind}{share}"

    @property
    def holds_out(self) -> bool:
        """Whether anything is held out of the training."""
        return self.kind not in WITH_FRACTION or self.valid_fraction > 0


@dataclass(frozen=True, eq=False)
class Split:
    """Positions into the ratings, ascending; together they are all positions. `train` is not empty."""

    train: np.ndarray
    """int64 [n_train]."""
    valid: np.ndarray
    """int64 [n_valid]; empty where the recipe holds out nothing."""


def split(interactions: Interactions, recipe: SplitRecipe) -> Split:
    """Split ratings by a recipe. The same recipe and data give the same split on any machine.

    Raises:
        ConfigError: "valid-data", which `recsys.data.valid_data` splits.
        DataError: "leave-last-out" or "chronological" without timestamps, "fold" of other data than MovieLens
            100K in its original order, or a part that would be empty.
    """
    n = len(interactions)
    if not recipe.holds_out:
        return Split(np.arange(n), np.arange(0))
    held_out = np.zeros(n, bool)
    rng = np.random.default_rng(recipe.seed)
    match recipe.kind:
        case "random":
            held_out[rng.permutation(n)[: round(n * recipe.valid_fraction)]] = True
        case "stratified":
            held_out = stratified(interactions.user_index, recipe.valid_fraction, recipe.seed)
        case "stratified-by-item":
            held_out = stratified(interactions.item_index, recipe.valid_fraction, recipe.seed)
        case "chronological":
            held_out = _latest(_times(interactions, recipe.kind), recipe.valid_fraction)
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
        case "valid-data":
            raise ConfigError("the held-out ratings are in a file of their own: name it with --valid-data")
    valid, train = np.flatnonzero(held_out), np.flatnonzero(~held_out)
    if not len(valid) or not len(train):
        raise DataError(
            f"{interactions.name}: {n} ratings by {interactions.n_users} users are too few for "
            f"{recipe.in_words}: it leaves {len(train)} to train on and {len(valid)} to measure with. Hold "
            f"out another share with --valid-fraction (0: nothing), choose another --split, or bring more "
            f"ratings."
        )
    return Split(train, valid)


def stratified(groups: np.ndarray, valid_fraction: float, seed: int) -> np.ndarray:
    """Hold out a fraction of each group, rounded: int [n] -> bool [n].

    The same ratings as by `python_stratified_split(data, ratio=1 - valid_fraction, seed=seed)` of Microsoft's
    recommenders (`datasets/python_splitters.py`), for the rows in the same order.
    """
    # The old generator, for the same numbers as theirs.
    order = np.lexsort((np.random.RandomState(seed).rand(len(groups)), groups))
    counts = np.bincount(groups)
    starts = np.cumsum(counts) - counts
    ranks = np.empty(len(groups), np.int64)
    ranks[order] = np.arange(1, 1 + len(groups)) - starts[groups[order]]
    # 1 - 0.9 is not 0.1 in binary. Halves go to the even number, as theirs do.
    held_out: np.ndarray = ranks > np.round(round(1 - valid_fraction, 12) * counts)[groups]
    return held_out


def choosing_users(user_index: np.ndarray) -> np.ndarray:
    """A random third of the users, rounded down: int [n] of held-out ratings -> int [m], ascending.

    Of the users held out whole, these choose the settings of the fold-in, and the others measure it.
    """
    users = np.unique(user_index)
    return np.sort(np.random.default_rng(0).permutation(users)[: len(users) // 3])


def give_share(
    interactions: Interactions, sides: Split, share: float = GIVEN_SHARE, seed: int = SplitRecipe.seed
) -> Split:
    """Move a share of each held-out user's ratings, rounded, to the training side.

    Of a split by user, these are the ratings that users held out whole are folded in from; the rest measures
    the fold-in (strong generalisation). `share` is from 0 to below 1.
    """
    rest = stratified(interactions.user_index[sides.valid], 1 - share, seed)
    return Split(np.sort(np.concatenate([sides.train, sides.valid[~rest]])), sides.valid[rest])


def _latest(times: np.ndarray, fraction: float) -> np.ndarray:
    """Whether each of times int64 [n] is among the latest fraction; equal times stay together: bool [n]."""
    n_held_out = round(len(times) * fraction)
    if not n_held_out:
        return np.zeros(len(times), bool)
    cut = np.partition(times, len(times) - n_held_out)[len(times) - n_held_out]
    held_out: np.ndarray = times >= cut
    return held_out


def _last_ratings(interactions: Interactions) -> np.ndarray:
    """Position of each user's latest rating (of equally late ones, the last in the source), for users with at
    least two ratings.
    """
    users = interactions.user_index
    # Stable: ties stay in the order of the source.
    order = np.lexsort((_times(interactions, "leave-last-out"), users))
    is_last = np.diff(users[order], append=0) != 0
    positions = order[is_last]
    counts = np.bincount(users)
    return np.compress(counts[users[positions]] > 1, positions)


def _times(interactions: Interactions, kind: Kind) -> np.ndarray:
    if interactions.timestamps is None:
        raise DataError(
            f"{interactions.name} has no timestamps, which {kind!r} needs. Use the split 'random'."
        )
    return interactions.timestamps


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
