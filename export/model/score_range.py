"""The range of predicted ratings, in numpy alone: bundles are measured where onnx is not installed."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def to_range(logits: npt.NDArray[np.float64], y_range: tuple[float, float] | None) -> npt.NDArray[np.float64]:
    """`low + (high - low) sigmoid(logits)`; the logits themselves where there is no range."""
    if y_range is None:
        return logits
    low, high = y_range
    with np.errstate(over="ignore"):  # correctly `low` far below 0
        return low + (high - low) / (1.0 + np.exp(-logits))
