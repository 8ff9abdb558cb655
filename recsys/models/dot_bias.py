"""Dot product with a bias for every user and item."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from recsys.models.dot import DotConfig
from recsys.models.kind import Kind
from recsys.models.y_range import YRange

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class DotBiasConfig(DotConfig):
    """Settings of a `dot-bias` model: those of `dot`, with a range by default."""

    y_range: YRange = "auto"
    """There is no global bias: the score of an average pair is near the middle of the range."""


def build(config: DotBiasConfig, n_users: int, n_items: int) -> nn.Module:
    """Build a dot product with biases."""
    from recsys.models.modules import DotProduct

    return DotProduct(n_users, n_items, config.n_factors, config.y_range, biases="both")


# Most items have fewer ratings than factors: without decay the model overfits from the third epoch on.
KIND = Kind("dot-bias", DotBiasConfig, build, ("ratings", "ranking"), weight_decay=0.1)
