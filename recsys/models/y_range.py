"""The range of ratings that a model may answer with.

A sigmoid reaches its ends only at infinity, so a range is a little wider than the ratings: then the highest
and the lowest rating can be predicted.
"""

from __future__ import annotations

import math
from typing import Literal

from torch import Tensor

from recsys.errors import ConfigError

YRange = tuple[float, float] | Literal["auto"] | None
"""Lowest and highest score (ratings); "auto": derived from the training ratings; None: unbounded."""


def check_y_range(y_range: YRange) -> None:
    """Refuse a range that is not two finite numbers in order.

    Raises:
        ConfigError: it is not.
    """
    if y_range is None or y_range == "auto":
        return
    low, high = y_range
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise ConfigError(f"y-range {low} {high}: the lower end must be below the higher one, both finite")


def resolve_y_range(y_range: YRange, ratings_range: tuple[float, float]) -> tuple[float, float] | None:
    """Turn "auto" into the ratings' range, widened by an eighth of its span: 1 to 5 gives 0.5 to 5.5.

    Where every rating is the same, there is no span: half a rating is added on both sides.
    """
    if y_range != "auto":
        return y_range
    low, high = ratings_range
    margin = (high - low) / 8 or 0.5
    return low - margin, high + margin


def squash(logits: Tensor, y_range: YRange) -> Tensor:
    """Squash logits into the range, float32 [N] -> float32 [N]; unbounded models return them as they are."""
    assert y_range != "auto", "a config is resolved before a model is built"
    if y_range is None:
        return logits
    low, high = y_range
    return logits.sigmoid() * (high - low) + low
