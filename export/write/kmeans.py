"""k-means: rows into a few groups, the same ones every time."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from export.model.reference import Float64, Int64

N_RESTARTS = 10
MAX_STEPS = 100
# What is fitted on where there are more rows: the centres of a sample this large hardly move any more.
MAX_FITTED = 50_000
ROWS_AT_ONCE = 1 << 16


class Groups(NamedTuple):
    """Rows in groups."""

    centres: Float64
    """[k, F]"""
    labels: Int64
    """[n], the group of each row"""


def k_means(rows: Float64, k: int, rng: np.random.Generator) -> Groups:
    """Group rows by their nearest centre, and centres as the mean of their rows.

    Lloyd's algorithm from ten draws of k-means++ (Arthur and Vassilvitskii, 2007); the grouping with the
    least squared distance counts. There are fewer than `k` groups where there are fewer different rows, and
    no empty ones.

    Args:
        rows: float64 [n, F], n at least 1.
        k: how many groups, at least 1.
        rng: draws the first centres.
    """
    # Centred, so that distances are not small differences of large numbers.
    mean = rows.mean(axis=0)
    rows = rows - mean
    sample = rows if len(rows) <= MAX_FITTED else rows[rng.choice(len(rows), MAX_FITTED, replace=False)]
    fitted = (_fit(sample, _first_centres(sample, k, rng)) for _ in range(N_RESTARTS))
    _, centres = min(fitted, key=lambda fit: fit[0])
    labels, _ = _nearest(rows, centres)
    kept, labels = np.unique(labels, return_inverse=True)
    return Groups(centres[kept] + mean, labels)


def _first_centres(rows: Float64, k: int, rng: np.random.Generator) -> Float64:
    """Rows drawn far from each other: each with the chance of its squared distance to those before."""
    chosen = [int(rng.integers(len(rows)))]
    distances = ((rows - rows[chosen[0]]) ** 2).sum(axis=1)
    while len(chosen) < k and distances.max() > 0:
        chosen.append(int(rng.choice(len(rows), p=distances / distances.sum())))
        distances = np.minimum(distances, ((rows - rows[chosen[-1]]) ** 2).sum(axis=1))
    return rows[chosen]


def _fit(rows: Float64, centres: Float64) -> tuple[float, Float64]:
    """The sum of squared distances in the end, and the centres."""
    labels, distances = _nearest(rows, centres)
    for _ in range(MAX_STEPS):
        counts = np.bincount(labels, minlength=len(centres))
        sums = np.eye(len(centres))[labels].T @ rows  # a product: np.add.at takes ten times as long
        # A centre that has lost all its rows stays where it is; `k_means` drops it if it never gets one.
        centres = np.where(counts[:, None] > 0, sums / np.maximum(counts, 1)[:, None], centres)
        before, (labels, distances) = labels, _nearest(rows, centres)
        if np.array_equal(labels, before):
            break
    return float(distances.sum()), centres


def _nearest(rows: Float64, centres: Float64) -> tuple[Int64, Float64]:
    """The nearest centre of each row, int64 [n], the first of equally near ones, and its squared distance."""
    labels, distances = np.empty(len(rows), np.int64), np.empty(len(rows))
    squares = (centres**2).sum(axis=1)
    for start in range(0, len(rows), ROWS_AT_ONCE):
        part = rows[start : start + ROWS_AT_ONCE]
        to_each = (part**2).sum(axis=1)[:, None] - 2 * part @ centres.T + squares  # [n, k]
        nearest = to_each.argmin(axis=1)
        labels[start : start + len(part)] = nearest
        distances[start : start + len(part)] = np.maximum(to_each[np.arange(len(part)), nearest], 0.0)
    return labels, distances
