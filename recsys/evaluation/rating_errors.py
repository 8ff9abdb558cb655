"""How far predicted ratings are from the real ones."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class RatingErrors:
    """Errors in ratings."""

    rmse: float
    """Root of the mean squared error."""
    mae: float
    """Mean absolute error."""


def rating_errors(scores: np.ndarray, ratings: np.ndarray) -> RatingErrors:
    """Compare float [n] scores with float [n] ratings, n >= 1, in float64."""
    errors = scores.astype(np.float64) - ratings.astype(np.float64)
    return RatingErrors(rmse=float(np.sqrt(np.mean(errors**2))), mae=float(np.mean(np.abs(errors))))
