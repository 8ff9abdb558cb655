"""Choosing the profiles of a bundle: users who represent groups, and the questions that separate them.

Users are grouped by their factors; a group's profile is the user nearest to its centre. That user is a row of
the tables, so the graphs answer for a profile as for any user; the centre would need a graph of its own.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence

import msgspec
import numpy as np
import numpy.typing as npt
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning

from export.model.arrays import Arrays, Float32, Float64, Int64
from serve.bundle.profiles import FORMAT_VERSION, Favourite, Profile, ProfilesFile, Question

N_PROFILES = 5
N_QUESTIONS = 8
N_FAVOURITES = 8
N_GENRES = 3
# Questions and favourites are the most rated items, which a new user probably knows.
N_WELL_KNOWN = 200
# The most users that k-means is fitted on. With 50,000, the mean squared distance of 200,000 made-up rows to
# their centres is at most 0.06 % smaller.
MAX_FITTED = 10_000
# With 10 starts of 300 iterations, that distance is 0.04 % smaller, and takes three times as long.
N_STARTS = 4
# A genre with fewer of the well-known items is left out: single items would decide its mean.
MIN_ITEMS_OF_GENRE = 5


def choose_profiles(
    arrays: Arrays,
    user_factors: Float32,
    n_user_ratings: npt.NDArray[np.integer],
    n_item_ratings: npt.NDArray[np.integer],
    score_span: float,
    genres: Sequence[str | None] | None = None,
    n_profiles: int = N_PROFILES,
) -> ProfilesFile:
    """Group the users, describe each group, and choose the questions.

    Users are grouped by their factors, float32 [n_users + 1, F], into `n_profiles` groups, or fewer where
    they differ less. Users and items without a rating (`n_user_ratings` int [n_users + 1], `n_item_ratings`
    int [n_items + 1]) are in no group and no question. Lifts are rounded to a share of `score_span`, the
    width of the scores. `genres` are those of each item, item 1 first, "|" between two.
    """
    grouped = 1 + np.flatnonzero(n_user_ratings[1:] > 0)
    factors = user_factors[grouped].astype(np.float64)
    labels, centres = group(factors, n_profiles)
    sizes = np.bincount(labels)
    middles = np.array([_middle(factors, labels == i, centre) for i, centre in enumerate(centres)])
    order = np.lexsort((middles, -sizes))
    users = grouped[middles[order]]

    known = 1 + np.argsort(-n_item_ratings[1:], kind="stable")[:N_WELL_KNOWN]  # the most rated first
    known = known[n_item_ratings[known] > 0]
    scores = arrays.of_items(known).scores64(np.append(0, users))  # [1 + profiles, known]
    # Relative to the average user, and to the profile's own mean.
    relative = scores[1:] - scores[0]
    # Shares of the span, rounded: the last bit of a sum differs between machines, and must not decide a tie.
    lifts = ((relative - relative.mean(axis=1, keepdims=True)) / score_span).round(9)
    asked = _separating(lifts)
    names = _genres_apart(known, lifts, genres)
    return ProfilesFile(
        format_version=FORMAT_VERSION,
        profiles=[
            Profile(
                user_index=int(user),
                n_users=int(size),
                favourites=_favourites(known, row, score_span),
                genres=named,
            )
            for user, size, row, named in zip(users, sizes[order], lifts, names, strict=True)
        ],
        questions=[
            Question(
                item_index=int(known[place]),
                average_score=_digits(scores[0, place]),
                lifts=[_digits(lift * score_span) for lift in lifts[:, place]],
            )
            for place in asked
        ],
    )


def encode(profiles: ProfilesFile) -> bytes:
    """The bytes of `profiles.json`."""
    return msgspec.json.format(msgspec.json.encode(profiles), indent=2) + b"\n"


def group(rows: Float64, n_groups: int) -> tuple[Int64, Float64]:
    """k-means: the group of each row, int64 [n], and the groups' centres, float64 [k, F]; none is empty.

    There are fewer than `n_groups` where there are fewer different rows. The same rows give the same groups.
    """
    rng = np.random.default_rng(0)
    fitted = rows if len(rows) <= MAX_FITTED else rows[rng.choice(len(rows), MAX_FITTED, replace=False)]
    n_groups = min(n_groups, len(np.unique(fitted, axis=0)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # rows that hardly differ: fewer groups
        model = KMeans(n_groups, n_init=N_STARTS, max_iter=100, algorithm="lloyd", random_state=0).fit(fitted)
    kept, labels = np.unique(model.predict(rows), return_inverse=True)
    return labels, model.cluster_centers_[kept]


def _middle(factors: Float64, members: npt.NDArray[np.bool_], centre: Float64) -> int:
    """The row nearest to the centre of its group; the first of equally near ones."""
    distances = np.where(members, ((factors - centre) ** 2).sum(axis=1), np.inf)
    return int(distances.argmin())


def _separating(lifts: Float64) -> list[int]:
    """Columns of `lifts`, float64 [profiles, items], that separate the profiles best, the best first.

    Greedy: each column minimises, with those before it, the sum over all pairs of profiles of 1 / squared
    distance, which the closest pairs dominate.
    """
    first, second = np.triu_indices(len(lifts), 1)
    gains = (lifts[first] - lifts[second]) ** 2  # [pairs, items]
    if not gains.any():
        return []
    distances = np.full(len(first), gains[gains > 0].min() / 10)
    chosen: list[int] = []
    for _ in range(min(N_QUESTIONS, lifts.shape[1])):
        left = (1 / (distances[:, None] + gains)).sum(axis=0)
        left[chosen] = np.inf
        chosen.append(int(left.argmin()))
        distances = distances + gains[:, chosen[-1]]
    return chosen


def _favourites(known: Int64, lifts: Float64, score_span: float) -> list[Favourite]:
    """The items with the highest positive lifts, highest first."""
    best = np.lexsort((known, -lifts))[:N_FAVOURITES]
    return [
        Favourite(item_index=int(known[place]), lift=_digits(lifts[place] * score_span))
        for place in best
        if lifts[place] > 0
    ]


def _genres_apart(known: Int64, lifts: Float64, genres: Sequence[str | None] | None) -> list[list[str]]:
    """For each profile, the genres that it likes more than the others do; no two have the same first two.

    `lifts` are float64 [profiles, items]. A genre's mean over its n items is compared in standard errors,
    1 / sqrt(n), since a mean of few items is high by chance.
    """
    of_genre: dict[str, list[int]] = {}
    for place, item in enumerate(known):
        for genre in (genres[item - 1] or "").split("|") if genres is not None else ():
            if genre and not genre.startswith("("):  # MovieLens' "(no genres listed)"
                of_genre.setdefault(genre, []).append(place)
    spread = lifts.std(axis=1, keepdims=True)
    apart = np.divide(lifts, spread, out=np.zeros_like(lifts), where=spread > 0)
    if len(apart) > 1:
        apart -= apart.mean(axis=0)
    found: list[list[str]] = []
    for row in apart:
        sure = {
            genre: round(float(row[places].mean()) * math.sqrt(len(places)), 9)
            for genre, places in of_genre.items()
            if len(places) >= MIN_ITEMS_OF_GENRE
        }
        best = sorted((genre for genre in sure if sure[genre] > 0), key=lambda genre: (-sure[genre], genre))
        used = [{*names[:2]} for names in found]
        second = next((one for one in best[1:] if {best[0], one} not in used), None)
        # Without another second one, the first alone.
        rest = [] if second is None else [second, *(one for one in best[1:] if one != second)]
        found.append([*best[:1], *rest][:N_GENRES])
    return found


def _digits(figure: float) -> float:
    """Rounded to six digits, because the last bit of float64 sums differs between machines."""
    return float(f"{figure:.6g}")
