"""The distribution of errors on held-out ratings, which `recsys report` draws."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from export.write.run_inputs import LoadedRun
from recsys.models.scoring import score_pairs
from serve.bundle.manifest import HeldOut, PopularityBand

# A data set with more different ratings than this gets as many bars of equal width.
MAX_BARS = 20
# Lowest number of training ratings of each band of items.
BANDS = (0, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000, 20_000, 50_000, 100_000)


def held_out(loaded: LoadedRun) -> HeldOut | None:
    """Ratings and predictions on the held-out part of a run; None without either."""
    if not loaded.held_out.any() or loaded.run.info.part.objective != "ratings":
        return None
    data = loaded.interactions
    rows = np.flatnonzero(loaded.held_out)
    items = data.item_index[rows].astype(np.int64)
    scores = score_pairs(loaded.module, data.user_index[rows].astype(np.int64), items)
    n_training = np.bincount(data.item_index[~loaded.held_out], minlength=data.n_items + 1)
    return spread(data.ratings[rows], scores, n_training[items])


def spread(
    ratings: npt.NDArray[np.floating], scores: npt.NDArray[np.floating], n_training: npt.NDArray[np.integer]
) -> HeldOut:
    """Histograms of ratings and of their predictions, float [n], n >= 1; and errors by how often the item was
    rated in training, `n_training` int [n].
    """
    bars = np.unique(ratings).astype(np.float64)
    if len(bars) > MAX_BARS:
        edges = np.linspace(bars[0], bars[-1], MAX_BARS + 1)
        bars = (edges[1:] + edges[:-1]) / 2
    middles = (bars[1:] + bars[:-1]) / 2

    def counts(values: npt.NDArray[np.floating]) -> list[int]:
        found: list[int] = np.bincount(np.searchsorted(middles, values), minlength=len(bars)).tolist()
        return found

    errors = scores.astype(np.float64) - ratings
    band = np.searchsorted(BANDS, n_training, side="right") - 1
    bands = []
    for place in np.unique(band).tolist():  # the least popular first
        inside = errors[band == place]
        bands.append(
            PopularityBand(
                lowest=BANDS[place],
                highest=BANDS[place + 1] - 1 if place + 1 < len(BANDS) else None,
                n=len(inside),
                rmse=float(f"{np.sqrt(np.mean(inside**2)):.6g}"),
                mae=float(f"{np.mean(np.abs(inside)):.6g}"),
            )
        )
    return HeldOut(
        n=len(ratings),
        ratings=bars.tolist(),
        n_observed=counts(ratings),
        n_predicted=counts(scores),
        by_popularity=bands,
    )
