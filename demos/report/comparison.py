"""Two bundles side by side: which one measures better, and how far their lists agree."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from demos.report.factor_map import item_counts
from serve import Recommender
from serve.bundle.ids import IdIndex
from serve.bundle.manifest import METRICS, Manifest
from serve.bundle.titles import folded
from serve.errors import RequestError

LETTERS = "A", "B"
N_USERS = 200
"""Users whose lists are compared, evenly spread over the users of A that B knows, too."""
# Shared ids whose titles are compared, and the least share of them that must have the same title in both.
N_TITLES, MIN_SAME_TITLES = 1000, 0.5
LOWER_IS_BETTER = ("rmse", "mae")
# Neither much nor little of these is better.
NEITHER_IS_BETTER = ("coverage_at_k", "popularity_at_k")


class Pair:
    """Two bundles that know some users and items in common.

    Raises RequestError: the two are one bundle, share no user or no item, or give other items the same ids.
    """

    def __init__(self, a: Recommender, b: Recommender) -> None:
        self.both = a, b
        paths = a.bundle.path, b.bundle.path
        if a.bundle.version == b.bundle.version:
            raise RequestError(f"{paths[0]} and {paths[1]} are the same bundle: name two that differ")
        self.user_ids = _shared("user", a.users, b.users, paths)
        self.item_ids = _shared("item", a.items.ids, b.items.ids, paths)
        """The ids that both know, in the order of A: int64 or string [n]."""
        _check_titles(self)

    @property
    def names(self) -> tuple[str, str]:
        """As in "A: ease" and "B: bayes"; with the versions where the models are of the same kinds."""
        titles = [one.manifest.model.title for one in self.both]
        if titles[0] == titles[1]:
            titles = [f"{one.manifest.model.title} ({one.bundle.version[:8]})" for one in self.both]
        return f"A: {titles[0]}", f"B: {titles[1]}"

    def rated(self, user_indices: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
        """What either bundle knows a user to have rated, for both lists to leave out: item indices of A and
        of B, int64, from the user's index in A and in B (0: unknown).
        """
        ids: dict[int | str, None] = {}
        for one, index in zip(self.both, user_indices, strict=True):
            if index and not one.manifest.without_seen:
                seen = one.seen.of_user(index).astype(np.int64)
                ids |= dict.fromkeys(one.items.ids.ids(seen).tolist())
        a, b = (one.items.ids.lookup(list(ids)) if ids else np.zeros(0, np.int64) for one in self.both)
        return a[a > 0], b[b > 0]


class MetricRow(NamedTuple):
    """One metric of both models."""

    key: str
    """In `Manifest.metrics`."""
    name: str
    values: tuple[float | None, float | None]
    better: int | None
    """0: A's, 1: B's; None: they are equal, do not compare, or neither direction is better."""


class Agreement(NamedTuple):
    """How far the lists of some users agree."""

    k: int
    counts: list[int]
    """Users by how many items both of their lists have, from 0 to k."""
    n_listed: tuple[int, int]
    """Different items in the lists of A and of B."""
    popularity: tuple[float | None, float | None]
    """Share of users who have rated the listed items, the mean; None: the bundle does not hold it."""

    @property
    def n_users(self) -> int:
        """Users whose lists were compared."""
        return sum(self.counts)

    @property
    def mean(self) -> float:
        """Items that both lists of a user have, the mean."""
        return sum(place * n for place, n in enumerate(self.counts)) / self.n_users


def metric_rows(a: Manifest, b: Manifest) -> list[MetricRow]:
    """The metrics that either model has."""
    comparable = difference(a, b) is None
    rows = []
    for name, key in METRICS.items():
        values = _number(a.metrics.get(key)), _number(b.metrics.get(key))
        if values == (None, None):
            continue
        better = None
        rounded = [value if value is None else round(value, 4) for value in values]
        if comparable and None not in values and rounded[0] != rounded[1] and key not in NEITHER_IS_BETTER:
            better = int((values[1] < values[0]) == (key in LOWER_IS_BETTER))  # type: ignore[operator]
        rows.append(MetricRow(key, name.format(k=a.metrics.get("k", 10)), values, better))
    return rows


def difference(a: Manifest, b: Manifest) -> str | None:
    """Why the metrics of the two do not compare; None: they do."""
    if a.data.sha256 != b.data.sha256:
        return "they were trained on different data"
    if a.split != b.split or a.metrics.get("n_held_out") != b.metrics.get("n_held_out"):
        return "different ratings were held out"
    if a.metrics.get("k") != b.metrics.get("k"):
        return "their lists were measured at different lengths"
    return None


def verdict(pair: Pair) -> str:
    """In one sentence which model is better at what."""
    a, b = (one.manifest for one in pair.both)
    if why := difference(a, b):
        return f"The metrics of the two do not compare: {why}."
    rows = {row.key: row for row in metric_rows(a, b)}
    clauses = [
        clause
        for key, at in (("ndcg_at_k", "ranks"), ("rmse", "predicts ratings"))
        if key in rows and (clause := _clause(rows[key], at))
    ]
    text = "; ".join(clauses) or "no metric is known of both"
    return f"{text[0].upper()}{text[1:]}."


def _clause(row: MetricRow, at: str) -> str | None:
    first, second = row.values
    if first is None or second is None:
        return None
    if row.better is None:
        return f"the one {at} as well as the other ({row.name} {first:.4f})"
    best, other = (first, second) if row.better == 0 else (second, first)
    gain = 1 - best / other if row.key in LOWER_IS_BETTER else best / other - 1 if other > 0 else 1
    by = f"{max(1, round(100 * gain))} %" if gain < 1 else f"{best / other:.1f} times" if other else "far"
    return f"{LETTERS[row.better]} {at} {by} better ({row.name} {best:.4f} against {other:.4f})"


def agreement(pair: Pair, k: int = 10) -> Agreement:
    """Compare the lists of at most `N_USERS` users, without what either bundle knows them to have rated."""
    n = len(pair.user_ids)
    chosen = pair.user_ids.take(pa.array(np.linspace(0, n - 1, min(n, N_USERS)).astype(np.int64)))
    k = min(k, *(one.largest_k("recommend") for one in pair.both))
    users = [one.users.lookup(chosen.to_pylist()) for one in pair.both]
    rated = [pair.rated(indices) for indices in zip(*(found.tolist() for found in users), strict=True)]
    lists, n_listed, popularity = [], [], []
    for place, one in enumerate(pair.both):
        exclude = [found[place] for found in rated]
        top = one.rank(users[place], k, exclude_seen=False, exclude_item_indices=exclude)
        listed = top.indices[top.indices > 0]
        n_listed.append(len(np.unique(listed)))
        counts = item_counts(one.bundle)
        shares = counts[listed] / one.manifest.model.n_users
        popularity.append(float(shares.mean()) if counts.any() and len(listed) else None)
        lists.append(one.items.ids.listed(top.indices))
    missing = [-1, None]
    n_both = [
        len({*first} & {*second} - {*missing})
        for first, second in zip(lists[0].tolist(), lists[1].tolist(), strict=True)
    ]
    counts_of = np.bincount(n_both, minlength=k + 1).tolist()
    return Agreement(k, counts_of, (n_listed[0], n_listed[1]), (popularity[0], popularity[1]))


def _shared(what: str, a: IdIndex, b: IdIndex, paths: tuple[Any, Any]) -> pa.Array:
    """The ids that both tables have, in the order of the first."""
    if a.type == b.type:
        ids = a.arrow_ids.filter(pc.is_in(a.arrow_ids, value_set=b.arrow_ids.drop_null()))
        if len(ids):
            return ids
    raise RequestError(
        f"{paths[0]} and {paths[1]} have no {what} in common: ids are such as {a.first_id!r} in the first, "
        f"{b.first_id!r} in the second. Compare bundles of the same data"
    )


def _check_titles(pair: Pair) -> None:
    """Refuse two catalogues that number other items alike, such as two releases with ids of their own."""
    catalogues = [one.items for one in pair.both]
    if not all(items.has_titles for items in catalogues):
        return
    ids = pair.item_ids.slice(0, N_TITLES).to_pylist()
    titles = []
    for items in catalogues:
        every = items.titles
        titles.append([folded(every[index - 1] or "") for index in items.ids.lookup(ids).tolist()])
    n_same = sum(one == other for one, other in zip(*titles, strict=True))
    if n_same < MIN_SAME_TITLES * len(ids):
        raise RequestError(
            f"only {n_same:,} of {len(ids):,} item ids have the same title in both bundles: they are of "
            f"different catalogues, whose lists can't be compared"
        )


def _number(value: Any) -> float | None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e18
    return float(value) if is_number else None
