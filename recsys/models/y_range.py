"""The range of a model's scores, in ratings.

A sigmoid reaches its ends only at infinity, so only a range wider than the ratings lets a model predict the
lowest and the highest of them.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, Literal

from recsys.errors import ConfigError

YRange = tuple[float, float] | Literal["auto"] | None
"""Lowest and highest score (ratings); "auto": derived from the training ratings; None: unbounded."""


def check_y_range(y_range: YRange) -> None:
    """Check the ends of a range.

    Raises:
        ConfigError: an end is not finite, or the lower end is not below the higher one.
    """
    if y_range is None or y_range == "auto":
        return
    low, high = y_range
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise ConfigError(f"y-range {low} {high}: the lower end must be below the higher one, both finite")


def resolve(config: Any, ratings_range: tuple[float, float]) -> Any:
    """Replace a config's y-range "auto" by the training ratings' range, extended by an eighth at both ends.

    Ratings from 1 to 5 give 0.5 to 5.5; ratings that are all equal are extended by a sixth of their size.
    """
    if getattr(config, "y_range", None) != "auto":
        return config
    low, high = ratings_range
    margin = (high - low) / 8 or abs(high) / 6 or 0.5
    return replace(config, y_range=(low - margin, high + margin))


def check_resolved(config: Any) -> None:
    """Check that a config does not depend on the data.

    Raises:
        ConfigError: its y-range is still "auto".
    """
    if getattr(config, "y_range", None) == "auto":
        raise ConfigError("the y-range is still 'auto': call resolve(config, (lowest, highest)) first")
