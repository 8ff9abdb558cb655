"""What tells the profiles of a bundle apart: the genres and items that each likes more than the others."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from serve import Profiles

# The most rated items, which people know.
N_WELL_KNOWN = 200
# Of a genre with fewer of them, single items would decide the mean.
MIN_ITEMS_OF_GENRE = 5
N_ITEMS = 4
N_GENRES = 2


class ProfileName(NamedTuple):
    """A profile beside the others."""

    genres: tuple[str, ...]
    """The genres that it likes more than the others do, most first; none where the data has none."""
    item_indices: list[int]
    """Likewise items, those it likes most; no other profile has one of them."""


def profile_names(
    profiles: Profiles, genres: Mapping[str, np.ndarray], counts: np.ndarray
) -> list[ProfileName]:
    """The names, in the order of the profiles. No two have the same genres, as long as there are others.

    Scores of well-known items are compared in standard deviations of each profile, less the average user's.

    Args:
        profiles: Of a bundle.
        genres: The item indices of each genre.
        counts: int64 [n_items + 1], ratings of each item.
    """
    known = 1 + np.argsort(-counts[1:], kind="stable")[:N_WELL_KNOWN]
    users = np.array([0, *(profile.user_index for profile in profiles.profiles)])
    scores = profiles.recommender.score_indices(np.repeat(users, len(known)), np.tile(known, len(users)))
    relative = scores.reshape(len(users), len(known)).astype(np.float64)  # [1 + profiles, known]
    lifts = relative[1:] - relative[0]
    lifts -= lifts.mean(axis=1, keepdims=True)
    spread = lifts.std(axis=1, keepdims=True)
    lifts = np.divide(lifts, spread, out=np.zeros_like(lifts), where=spread > 0)
    apart = lifts - lifts.mean(axis=0)
    members = {name: np.isin(known, indices) for name, indices in genres.items()}
    members = {name: of for name, of in members.items() if of.sum() >= MIN_ITEMS_OF_GENRE}
    owner = apart.argmax(axis=0)
    names: list[ProfileName] = []
    for place, row in enumerate(apart):
        means = {name: float(row[of].mean()) for name, of in members.items()}
        best = sorted(means, key=lambda name: -means[name])
        own = [one for one in np.argsort(-row, kind="stable") if owner[one] == place and row[one] > 0]
        items = [int(known[one]) for one in own[:N_ITEMS]]
        names.append(ProfileName(_unused(best, {one.genres for one in names}), items))
    return names


def _unused(best: list[str], used: set[tuple[str, ...]]) -> tuple[str, ...]:
    """The first genres, or the next ones where another profile has these."""
    for second in range(1, len(best)):
        if {*(found := (best[0], best[second]))} not in [{*one} for one in used]:
            return found
    return tuple(best[:N_GENRES])
