"""A neural network over a user's and an item's embedding, side by side."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import ClassVar, Self

import torch
from torch import Tensor, nn
from torch.nn.functional import embedding, linear

from recsys.errors import ConfigError
from recsys.models.tables import truncated_normal_table
from recsys.models.y_range import YRange, check_y_range, resolve_y_range, squash


def embedding_width(n_rows: int) -> int:
    """Width of a table of `n_rows` rows, row 0 counted, by fastai's rule: min(600, round(1.6 n^0.56))."""
    return min(600, round(1.6 * math.pow(n_rows, 0.56)))


@dataclass(frozen=True)
class MlpConfig:
    """What an `Mlp` is built from."""

    n_user_factors: int | None = None
    """Width of the user table; None: by `embedding_width`."""
    n_item_factors: int | None = None
    """Width of the item table, which has its own size."""
    hidden_layers: tuple[int, ...] = (100,)
    """Width of each hidden layer; none at all leaves a linear model."""
    batch_norm: bool = False
    """After each hidden layer's ReLU."""
    dropout: float = 0.0
    """Share of each hidden layer's outputs that a training step drops."""
    y_range: YRange = "auto"
    default_weight_decay: ClassVar[float] = 0.1
    """As `DotBias`, though an MLP hardly notices."""

    def __post_init__(self) -> None:
        for name, width in (("user", self.n_user_factors), ("item", self.n_item_factors)):
            if width is not None and width < 1:
                raise ConfigError(f"{name} factors is {width}: at least 1 is needed")
        if any(width < 1 for width in self.hidden_layers):
            raise ConfigError(f"hidden layers {list(self.hidden_layers)}: each needs a width of at least 1")
        if not 0 <= self.dropout < 1:
            raise ConfigError(f"dropout is {self.dropout}: it must be at least 0 and below 1")
        check_y_range(self.y_range)

    def resolve(self, ratings_range: tuple[float, float]) -> Self:
        """Settle what depends on the data: an "auto" range, from the lowest and highest training rating."""
        return replace(self, y_range=resolve_y_range(self.y_range, ratings_range))


class Mlp(nn.Module):
    """score = layers(concat(user_factors, item_factors)), squashed into the range.

    `layers` repeats, for each hidden width, the modules of fastai's `LinBnDrop(lin_first=True)`:

        Linear (no bias where batch norm follows) -> ReLU -> [BatchNorm1d] -> [Dropout]

    and ends with a plain `Linear` to one output. The first Linear's input is the user's columns, then the
    item's. Modules that the config leaves out are not there, so they have no number either: with neither
    batch norm nor dropout the Linears are `layers.0`, `layers.2`, `layers.4`, ...
    """

    def __init__(self, config: MlpConfig, n_users: int, n_items: int) -> None:
        super().__init__()
        self.config = config
        n_user_factors = config.n_user_factors or embedding_width(1 + n_users)
        n_item_factors = config.n_item_factors or embedding_width(1 + n_items)
        self.user_factors = truncated_normal_table(n_users, n_user_factors)
        self.item_factors = truncated_normal_table(n_items, n_item_factors)
        self.layers = nn.Sequential(*_layers(config, n_user_factors + n_item_factors))

    def forward(self, user_index: Tensor, item_index: Tensor) -> Tensor:
        """Score pairs: int64 [N], int64 [N] -> float32 [N]."""
        users = embedding(user_index, self.user_factors)  # [N, Fu]
        items = embedding(item_index, self.item_factors)  # [N, Fi]
        logits = self.layers(torch.cat([users, items], dim=1))  # [N, 1]
        return squash(logits.squeeze(1), self.config.y_range)

    def item_scorer(self) -> Callable[[Tensor], Tensor]:
        """Users against the whole catalogue: int64 [B] -> float32 [B, 1 + n_items], as `forward` scores.

        The first Linear is split: what it makes of the items is computed here, once for all users.
        """
        first, rest = self.layers[0], self.layers[1:]
        assert isinstance(first, nn.Linear)
        n_user_factors = self.user_factors.shape[1]
        of_users, of_items = first.weight[:, :n_user_factors], first.weight[:, n_user_factors:]
        items = self.item_factors @ of_items.T  # [1 + n_items, H]

        def score(user_index: Tensor) -> Tensor:
            users = linear(embedding(user_index, self.user_factors), of_users, first.bias)  # [B, H]
            hidden = (users[:, None] + items).flatten(0, 1)  # [B * (1 + n_items), H]
            logits = rest(hidden).reshape(len(users), len(items))
            return squash(logits, self.config.y_range)

        return score


def _layers(config: MlpConfig, n_inputs: int) -> Iterator[nn.Module]:
    for width in config.hidden_layers:
        yield nn.Linear(n_inputs, width, bias=not config.batch_norm)
        yield nn.ReLU()
        if config.batch_norm:
            norm = nn.BatchNorm1d(width)
            nn.init.constant_(norm.bias, 1e-3)  # as fastai starts it
            yield norm
        if config.dropout > 0:
            yield nn.Dropout(config.dropout)
        n_inputs = width
    yield nn.Linear(n_inputs, 1)
