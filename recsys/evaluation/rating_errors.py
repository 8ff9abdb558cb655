"""Errors of predicted ratings."""

from __future__ import annotations

import numpy as np


def rating_errors(scores: np.ndarray, ratings: np.ndarray) -> dict[str, float]:
    """Compare float [n] scores with float [n] ratings, n >= 1, in float64.

    Returns:
        `rmse`, the root of the mean squared error, and `mae`, the mean absolute error, both in ratings.
    """
    errors = scores.astype(np.float64) - ratings.astype(np.float64)
    return {"rmse": float(np.sqrt(np.mean(errors**2))), "mae": float(np.mean(np.abs(errors)))}
