"""How well known items are, as people are asked for it."""

from __future__ import annotations

import numpy as np

from serve.terminal import counted

# Shares of the rated items: with more ratings than most, and with no more than half.
WELL_KNOWN, LITTLE_KNOWN = 0.9, 0.5


def popularity_bands(counts: np.ndarray) -> dict[str, tuple[int | None, int | None]]:
    """Names of how well items are known, with the least and the largest number of ratings of each."""
    rated = counts[1:][counts[1:] > 0]
    bands: dict[str, tuple[int | None, int | None]] = {"All": (None, None)}
    if len(rated):
        many, few = int(np.quantile(rated, WELL_KNOWN)), int(np.quantile(rated, LITTLE_KNOWN))
        bands[f"Well known: {counted(many, 'rating')} or more"] = (many, None)
        if few < many:
            bands[f"Less known: {few:,} or fewer"] = (None, few)
    return bands
