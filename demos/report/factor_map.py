"""The item factors in two dimensions."""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from serve import Bundle
from serve.bundle.items import Catalogue
from serve.bundle.parquet import ParquetTable, numbers
from serve.bundle.titles import displayed

# The most rated items: more points would hide each other.
MAX_POINTS = 800
MAX_LABELS = 40
# Genres with a colour of their own; all others share one more.
N_GENRES = 7
LONGEST_LABEL = 34


class Point(NamedTuple):
    """An item: its place, its series, and its title. `label` stands beside the point where there is room."""

    x: float
    y: float
    series: int
    title: str
    label: str | None


class FactorMap(NamedTuple):
    """A map of items."""

    points: list[Point]
    """The most rated first."""
    series: list[str]
    """Genres, the most frequent first, then "other"; one name where the data has no genres."""
    explained: float
    """Share of the factors' variance that the two directions hold."""


def item_counts(bundle: Bundle) -> np.ndarray:
    """How many ratings each item has: int64 [n_items + 1]. Reads one row group at a time.

    All 0 where the bundle does not hold what users have rated.
    """
    if bundle.manifest.without_seen:
        return np.zeros(bundle.manifest.model.n_items + 1, np.int64)
    table = ParquetTable(bundle.file("seen.parquet"), {"item_index": [pa.int32()]})
    counts = np.zeros(bundle.manifest.model.n_items + 1, np.int64)
    for group in range(table.n_row_groups):
        index = numbers(table.read(["item_index"], group)["item_index"])
        # An index outside the table is damage, and is not counted.
        counts += np.bincount(index[(index >= 0) & (index < len(counts))], minlength=len(counts))
    return counts


TABLES = ("item_factors", "item_hidden", "ranking_item_factors")
"""The first of these that a bundle has is drawn. A packed MLP has no embeddings, only the first layer of
them; of two equal tables, such as those of a single item, torch's export keeps one.
"""


def factor_map(bundle: Bundle, items: Catalogue, n_ratings: np.ndarray) -> FactorMap | None:
    """The two directions in which the item factors vary most (principal components).

    `n_ratings` is int [n_items + 1], how often each item was rated; None where no item was.
    """
    shown = 1 + np.argsort(-n_ratings[1:], kind="stable")[:MAX_POINTS]
    shown = shown[n_ratings[shown] > 0]
    if not len(shown):
        return None
    held = {table.name for table in bundle.manifest.tables}
    name = next(name for name in TABLES if name in held)
    factors = bundle.table(name)[shown].astype(np.float64)  # [n_shown, n_factors]
    factors -= factors.mean(axis=0)
    _, singular, directions = np.linalg.svd(factors, full_matrices=False)
    main = directions[:2]
    # A direction has no sign: take the one that makes its largest component positive.
    largest = main[np.arange(len(main)), np.abs(main).argmax(axis=1)]
    places = np.zeros((len(shown), 2))
    places[:, : len(main)] = factors @ (main * np.where(largest < 0, -1, 1)[:, None]).T
    found = [items[index] for index in shown.tolist()]
    series, of_item = _by_genre([item.genres for item in found])
    points = []
    for order, (item, (x, y), genre) in enumerate(zip(found, places.tolist(), of_item, strict=True)):
        title = displayed(items.label(item.item_index))
        short = title if len(title) <= LONGEST_LABEL else title[: LONGEST_LABEL - 1] + "…"
        label = short if order < MAX_LABELS else None
        points.append(Point(x, y, genre, f"{title}: {n_ratings[item.item_index]:,} ratings", label))
    variances = singular**2
    total = float(variances.sum())
    return FactorMap(points, series, float(variances[:2].sum()) / total if total > 0 else 1.0)


def _by_genre(genres: list[tuple[str, ...]]) -> tuple[list[str], list[int]]:
    """Names of the series, and the series of each item: the rarest of its genres that has a colour.

    By the first genre, most of the map would be "Drama" and "Comedy".
    """
    counts = Counter(genre for listed in genres for genre in listed if not genre.startswith("("))
    if not counts:
        return ["items"], [0] * len(genres)
    named = [genre for genre, _ in sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))[:N_GENRES]]
    place = {genre: order for order, genre in enumerate(named)}
    of_item = [
        max((place[genre] for genre in listed if genre in place), default=len(named)) for listed in genres
    ]
    return [*named, "other"], of_item
