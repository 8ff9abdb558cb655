"""Dot product of a user's and an item's latent factors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from recsys.errors import ConfigError
from recsys.models.kind import Kind
from recsys.models.y_range import YRange, check_y_range

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class DotConfig:
    """Settings of a `dot` model."""

    n_factors: int = 50
    """Latent factors per user and item."""
    y_range: YRange = None
    """Unbounded by default, as in the course notes."""

    def __post_init__(self) -> None:
        if self.n_factors < 1:
            raise ConfigError(f"factors is {self.n_factors}: at least 1 is needed")
        check_y_range(self.y_range)


def build(config: DotConfig, n_users: int, n_items: int) -> nn.Module:
    """Build a dot product without biases."""
    from recsys.models.modules import DotProduct

    return DotProduct(n_users, n_items, config.n_factors, config.y_range, biases="none")


# Without biases, the factors alone must grow to reach the ratings, and decay would hold them back.
KIND = Kind("dot", DotConfig, build, ("ratings", "ranking"), weight_decay=0.0)
