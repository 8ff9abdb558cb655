"""A neural network on the concatenated embeddings of a user and an item."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from recsys.errors import ConfigError
from recsys.models.kind import Kind
from recsys.models.y_range import YRange, check_y_range

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class MlpConfig:
    """Settings of an `mlp` model."""

    n_user_factors: int | None = None
    """Width of the user table; None: by `embedding_width`."""
    n_item_factors: int | None = None
    """Width of the item table, likewise."""
    hidden_layers: tuple[int, ...] = (100,)
    """Width of each hidden layer; an empty tuple makes a linear model."""
    batch_norm: bool = False
    """After each hidden layer's ReLU."""
    dropout: float = 0.0
    """Fraction of each hidden layer's outputs that a training step drops."""
    y_range: YRange = "auto"

    def __post_init__(self) -> None:
        for name, width in (("user", self.n_user_factors), ("item", self.n_item_factors)):
            if width is not None and width < 1:
                raise ConfigError(f"{name} factors is {width}: at least 1 is needed")
        if any(width < 1 for width in self.hidden_layers):
            raise ConfigError(f"hidden layers {list(self.hidden_layers)}: each needs a width of at least 1")
        if not 0 <= self.dropout < 1:
            raise ConfigError(f"dropout is {self.dropout}: it must be at least 0 and below 1")
        check_y_range(self.y_range)


def embedding_width(n_rows: int) -> int:
    """Width of a table of `n_rows` rows, row 0 counted, by fastai's rule: min(600, round(1.6 n^0.56))."""
    return min(600, round(1.6 * math.pow(n_rows, 0.56)))


def build(config: MlpConfig, n_users: int, n_items: int) -> nn.Module:
    """Build a network over two embeddings."""
    from recsys.models.modules import Mlp

    return Mlp(
        n_users,
        n_items,
        config.n_user_factors or embedding_width(1 + n_users),
        config.n_item_factors or embedding_width(1 + n_items),
        config.hidden_layers,
        config.y_range,
        batch_norm=config.batch_norm,
        dropout=config.dropout,
    )


# The error of an MLP hardly depends on it.
KIND = Kind("mlp", MlpConfig, build, ("ratings", "ranking"), weight_decay=0.1)
