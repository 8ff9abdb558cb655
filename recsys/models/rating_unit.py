"""The unit of the ratings while a model is trained by gradient.

Initial weights, learning rates and the optimizer's epsilon suit ratings of ordinary size, such as 1 to 5.
With ratings from 0 to 0.0001 or to 500,000 they would never reach a useful model.
"""

from __future__ import annotations

import copy
import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from torch import nn

# Typical sizes of ratings that are trained on as they are.
ORDINARY = (0.1, 100.0)


def rating_unit(ratings: np.ndarray) -> float:
    """1 for ratings, float32 [n], of ordinary size; else the power of ten at or below their size.

    The size is the median of the absolute values, without zeros: a few outliers do not change it.
    """
    sizes = np.abs(ratings[ratings != 0].astype(np.float64))
    size = float(np.median(sizes)) if len(sizes) else 1.0
    return 1.0 if ORDINARY[0] <= size <= ORDINARY[1] else float(f"1e{math.floor(math.log10(size))}")


def in_unit(config: Any, unit: float) -> Any:
    """The config of a model of ratings divided by `unit`."""
    if unit == 1 or not isinstance(config.y_range, tuple):
        return config
    low, high = config.y_range
    return replace(config, y_range=(low / unit, high / unit))


def in_ratings(model: nn.Module, config: Any, unit: float) -> nn.Module:
    """The model whose scores are `unit` times those of `model`: itself, or a copy.

    `config` is that of the copy. Where it has a range, the weights are the same.
    """
    if unit == 1:
        return model
    scaled: Any = copy.deepcopy(model)
    scaled.y_range = config.y_range
    if config.y_range is None:
        scaled.multiply(unit)
    module: nn.Module = scaled
    return module
