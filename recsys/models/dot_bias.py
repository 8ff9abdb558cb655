"""Dot product with a bias for every user and item: generous users and good films need no factor for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Self

from torch import Tensor, nn
from torch.nn.functional import embedding

from recsys.models.dot import DotConfig
from recsys.models.tables import normal_table, with_average_row
from recsys.models.y_range import YRange, squash


@dataclass(frozen=True)
class DotBiasConfig(DotConfig):
    """What a `DotBias` is built from: as `DotConfig`, with a range by default."""

    y_range: YRange = "auto"
    """There is no global bias: the middle of the range is where an average pair starts."""
    default_weight_decay: ClassVar[float] = 0.1
    """A row has more numbers than most items have ratings: undecayed, it overfits from epoch 3 on."""


class DotBias(nn.Module):
    """score = user_factors . item_factors + user_bias + item_bias, squashed into the range."""

    def __init__(self, config: DotBiasConfig, n_users: int, n_items: int) -> None:
        super().__init__()
        self.config = config
        self.user_factors = normal_table(n_users, config.n_factors)
        self.item_factors = normal_table(n_items, config.n_factors)
        self.user_biases = normal_table(n_users, 1)
        self.item_biases = normal_table(n_items, 1)

    @classmethod
    def from_factors(
        cls,
        user_factors: Tensor,
        item_factors: Tensor,
        user_biases: Tensor,
        item_biases: Tensor,
        y_range: YRange = None,
    ) -> Self:
        """Build a model without training.

        Args:
            user_factors: [n_users, F], first user first; row 0 (unknown) becomes their average.
            item_factors: [n_items, F], likewise.
            user_biases: [n_users].
            item_biases: [n_items].
            y_range: as in `DotBiasConfig`, but unbounded by default.
        """
        n_users, n_factors = user_factors.shape
        model = cls(DotBiasConfig(n_factors, y_range), n_users, len(item_factors))
        model.user_factors = with_average_row(user_factors)
        model.item_factors = with_average_row(item_factors)
        model.user_biases = with_average_row(user_biases.reshape(n_users, 1))
        model.item_biases = with_average_row(item_biases.reshape(len(item_factors), 1))
        return model

    def forward(self, user_index: Tensor, item_index: Tensor) -> Tensor:
        """Score pairs: int64 [N], int64 [N] -> float32 [N]."""
        users = embedding(user_index, self.user_factors)  # [N, F]
        items = embedding(item_index, self.item_factors)  # [N, F]
        biases = embedding(user_index, self.user_biases) + embedding(item_index, self.item_biases)  # [N, 1]
        return squash((users * items).sum(dim=1) + biases.squeeze(1), self.config.y_range)

    def item_scorer(self) -> Callable[[Tensor], Tensor]:
        """Users against the whole catalogue: int64 [B] -> float32 [B, 1 + n_items], as `forward` scores."""

        def score(user_index: Tensor) -> Tensor:
            products = embedding(user_index, self.user_factors) @ self.item_factors.T
            biases = embedding(user_index, self.user_biases) + self.item_biases.T  # [B, 1 + n_items]
            return squash(products + biases, self.config.y_range)

        return score
