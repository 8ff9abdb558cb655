"""Dot product of a user's and an item's latent factors: the simplest collaborative filter."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import ClassVar, Self

from torch import Tensor, nn
from torch.nn.functional import embedding

from recsys.errors import ConfigError
from recsys.models.tables import normal_table, with_average_row
from recsys.models.y_range import YRange, check_y_range, resolve_y_range, squash


@dataclass(frozen=True)
class DotConfig:
    """What a `Dot` is built from."""

    n_factors: int = 50
    """Latent factors per user and item."""
    y_range: YRange = None
    """Unbounded by default, as the plain model of the course notes."""
    default_weight_decay: ClassVar[float] = 0.0
    """Without biases, the factors alone must grow to reach the ratings: decay holds them back."""

    def __post_init__(self) -> None:
        if self.n_factors < 1:
            raise ConfigError(f"factors is {self.n_factors}: at least 1 is needed")
        check_y_range(self.y_range)

    def resolve(self, ratings_range: tuple[float, float]) -> Self:
        """Settle what depends on the data: an "auto" range, from the lowest and highest training rating."""
        return replace(self, y_range=resolve_y_range(self.y_range, ratings_range))


class Dot(nn.Module):
    """score = user_factors . item_factors, squashed into the range where there is one."""

    def __init__(self, config: DotConfig, n_users: int, n_items: int) -> None:
        super().__init__()
        self.config = config
        self.user_factors = normal_table(n_users, config.n_factors)
        self.item_factors = normal_table(n_items, config.n_factors)

    @classmethod
    def from_factors(cls, user_factors: Tensor, item_factors: Tensor, y_range: YRange = None) -> Self:
        """Build a model without training.

        Args:
            user_factors: [n_users, F], first user first; row 0 (unknown) becomes their average.
            item_factors: [n_items, F], likewise.
            y_range: as in `DotConfig`.
        """
        n_users, n_factors = user_factors.shape
        model = cls(DotConfig(n_factors, y_range), n_users, len(item_factors))
        model.user_factors = with_average_row(user_factors)
        model.item_factors = with_average_row(item_factors)
        return model

    def forward(self, user_index: Tensor, item_index: Tensor) -> Tensor:
        """Score pairs: int64 [N], int64 [N] -> float32 [N]."""
        users = embedding(user_index, self.user_factors)  # [N, F]
        items = embedding(item_index, self.item_factors)  # [N, F]
        return squash((users * items).sum(dim=1), self.config.y_range)

    def item_scorer(self) -> Callable[[Tensor], Tensor]:
        """Users against the whole catalogue: int64 [B] -> float32 [B, 1 + n_items], as `forward` scores."""

        def score(user_index: Tensor) -> Tensor:
            products = embedding(user_index, self.user_factors) @ self.item_factors.T
            return squash(products, self.config.y_range)

        return score
