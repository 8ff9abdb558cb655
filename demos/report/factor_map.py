"""The item factors in two dimensions."""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

import numpy as np

from demos.report.charts import Point
from serve.bundle.bundle import Bundle
from serve.bundle.items import Catalogue

# The most rated items: more would be a cloud.
MAX_POINTS = 800
MAX_LABELS = 40
# Genres with a colour of their own; one more colour is for all others.
N_GENRES = 7
LONGEST_LABEL = 34


class FactorMap(NamedTuple):
    """A map of items."""

    points: list[Point]
    """The most rated first."""
    series: list[str]
    """Genres, the most frequent first, then "other"; one name where the data has no genres."""
    explained: float
    """Share of the factors' variance that the two directions hold."""


def factor_map(bundle: Bundle, items: Catalogue, n_ratings: np.ndarray) -> FactorMap:
    """The two directions in which the item factors vary most (principal components).

    Args:
        bundle: any bundle.
        items: its items.
        n_ratings: int [n_items + 1], how often each item was rated.
    """
    shown = 1 + np.argsort(-n_ratings[1:], kind="stable")[:MAX_POINTS]
    shown = shown[n_ratings[shown] > 0]
    factors = bundle.table("item_factors")[shown].astype(np.float64)
    factors -= factors.mean(axis=0)
    # Of the covariance, not of the table: it is as small as the number of factors is.
    variances, directions = np.linalg.eigh(factors.T @ factors)
    main = directions[:, ::-1][:, :2]
    # A direction has no sign: the one that makes its largest part positive.
    main = main * np.where(main[np.abs(main).argmax(axis=0), np.arange(main.shape[1])] < 0, -1, 1)
    places = factors @ main
    if places.shape[1] == 1:
        places = np.column_stack([places, np.zeros(len(places))])
    found = [items[index] for index in shown.tolist()]
    series, of_item = _by_genre([item.genres for item in found])
    points = [
        Point(
            float(place[0]),
            float(place[1]),
            genre,
            f"{items.label(item.item_index)}: {n_ratings[item.item_index]:,} ratings",
            _short(items.label(item.item_index)) if order < MAX_LABELS else None,
        )
        for order, (item, place, genre) in enumerate(zip(found, places, of_item, strict=True))
    ]
    total = float(variances.sum())
    return FactorMap(points, series, float(variances[-2:].sum()) / total if total > 0 else 1.0)


def _by_genre(genres: list[tuple[str, ...]]) -> tuple[list[str], list[int]]:
    """Names of the series, and the series of each item: its rarest genre that has a colour.

    Not its first: "Drama" and "Comedy" would then be most of the map.
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


def _short(label: str) -> str:
    return label if len(label) <= LONGEST_LABEL else label[: LONGEST_LABEL - 1] + "…"
