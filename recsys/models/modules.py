"""The torch modules that kinds of model build. They follow the contract of `recsys.models`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Literal, Self

import torch
from torch import Tensor, nn
from torch.nn.functional import embedding, linear

from recsys.models.tables import normal_table, truncated_normal_table, with_average_row
from recsys.models.y_range import YRange

Biases = Literal["none", "items", "both"]
"""Which sides of a `DotProduct` have biases."""


class DotProduct(nn.Module):
    """score = user_factors . item_factors [[+ user_bias] + item_bias], squashed into a range if there is one.

    `n_users` and `n_items` leave out row 0.
    """

    def __init__(
        self, n_users: int, n_items: int, n_factors: int, y_range: YRange = None, *, biases: Biases
    ) -> None:
        super().__init__()
        self.y_range = y_range
        self.user_factors = normal_table(n_users, n_factors)
        self.item_factors = normal_table(n_items, n_factors)
        self.user_biases = normal_table(n_users, 1) if biases == "both" else None
        self.item_biases = normal_table(n_items, 1) if biases != "none" else None

    @classmethod
    def from_factors(
        cls,
        user_factors: Tensor,
        item_factors: Tensor,
        user_biases: Tensor | None = None,
        item_biases: Tensor | None = None,
        y_range: YRange = None,
    ) -> Self:
        """Build a model of factors, [n_users, F] and [n_items, F], and biases, [n_users] and [n_items].

        Row 0 (unknown) is added to each table, as the average row.
        """
        (n_users, n_factors), n_items = user_factors.shape, len(item_factors)
        biases: Biases = "none" if item_biases is None else "items" if user_biases is None else "both"
        model = cls(n_users, n_items, n_factors, y_range, biases=biases)
        model.user_factors = with_average_row(user_factors)
        model.item_factors = with_average_row(item_factors)
        if user_biases is not None:
            assert item_biases is not None, "users have biases only if items have"
            model.user_biases = with_average_row(user_biases.reshape(n_users, 1))
        if item_biases is not None:
            model.item_biases = with_average_row(item_biases.reshape(n_items, 1))
        return model

    def forward(self, user_index: Tensor, item_index: Tensor) -> Tensor:
        """Score pairs: int64 [N], int64 [N] -> float32 [N]."""
        users = embedding(user_index, self.user_factors)  # [N, F]
        items = embedding(item_index, self.item_factors)  # [N, F]
        if self.item_biases is None:
            return squash((users * items).sum(dim=1), self.y_range)
        if self.user_biases is None:
            biases = embedding(item_index, self.item_biases)  # [N, 1]
        else:
            biases = embedding(user_index, self.user_biases) + embedding(item_index, self.item_biases)
        return squash((users * items).sum(dim=1) + biases.squeeze(1), self.y_range)

    @torch.no_grad()
    def multiply(self, factor: float) -> None:
        """Multiply the scores by a factor, in place; of a model without a range."""
        for table in (self.item_factors, self.user_biases, self.item_biases):
            if table is not None:
                table.mul_(factor)

    def item_scorer(self) -> Callable[[Tensor], Tensor]:
        """Score all items for users: int64 [B] -> float32 [B, 1 + n_items], as `forward` does."""
        return lambda user_index: self._scores(user_index, self.item_factors, self.item_biases)

    def item_orderer(self) -> Callable[[Tensor, slice], Tensor]:
        """Like `item_scorer`, of a part of the items, with scores of which only the order in each row counts.

        User biases and the range change no order.
        """

        def order(user_index: Tensor, items: slice) -> Tensor:
            users, factors = embedding(user_index, self.user_factors), self.item_factors[items].T
            if self.item_biases is None:
                return users @ factors
            return torch.addmm(self.item_biases[items].T, users, factors)

        return order

    def score_grid(self, user_index: Tensor, item_index: Tensor) -> Tensor:
        """Score every user with every item: int64 [B], int64 [M] -> float32 [B, M], as `forward` does."""
        biases = None if self.item_biases is None else embedding(item_index, self.item_biases)
        return self._scores(user_index, embedding(item_index, self.item_factors), biases)

    def _scores(self, user_index: Tensor, item_factors: Tensor, item_biases: Tensor | None) -> Tensor:
        scores = embedding(user_index, self.user_factors) @ item_factors.T
        if item_biases is not None:
            biases = item_biases.T  # [1, M]
            if self.user_biases is not None:
                biases = embedding(user_index, self.user_biases) + biases
            scores = scores + biases
        return squash(scores, self.y_range)


class Mlp(nn.Module):
    """score = layers(concat(user_factors, item_factors)), squashed into the range if there is one.

    For each hidden width, `layers` has the modules of fastai's `LinBnDrop(lin_first=True)`:

        Linear (no bias where batch norm follows) -> ReLU -> [BatchNorm1d] -> [Dropout]

    and then a `Linear` to one output. The input is the user's factors, then the item's. Only modules that
    exist are numbered: without batch norm and dropout the Linears are `layers.0`, `layers.2`, ...
    """

    def __init__(
        self,
        n_users: int,
        n_items: int,
        n_user_factors: int,
        n_item_factors: int,
        hidden_layers: Sequence[int],
        y_range: YRange = None,
        *,
        batch_norm: bool = False,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.y_range = y_range
        self.user_factors = truncated_normal_table(n_users, n_user_factors)
        self.item_factors = truncated_normal_table(n_items, n_item_factors)
        widths = [n_user_factors + n_item_factors, *hidden_layers]
        self.layers = nn.Sequential(*_layers(widths, batch_norm, dropout))

    def forward(self, user_index: Tensor, item_index: Tensor) -> Tensor:
        """Score pairs: int64 [N], int64 [N] -> float32 [N]."""
        users = embedding(user_index, self.user_factors)  # [N, Fu]
        items = embedding(item_index, self.item_factors)  # [N, Fi]
        logits = self.layers(torch.cat([users, items], dim=1))  # [N, 1]
        return squash(logits.squeeze(1), self.y_range)

    @torch.no_grad()
    def multiply(self, factor: float) -> None:
        """Multiply the scores by a factor, in place; of a model without a range."""
        for parameter in self.layers[-1].parameters():
            parameter.mul_(factor)

    def item_scorer(self) -> Callable[[Tensor], Tensor]:
        """Score all items for users: int64 [B] -> float32 [B, 1 + n_items], as `forward` does.

        The first Linear is split: the items' half is computed here, once for all users.
        """
        items = self._item_half(self.item_factors)  # [1 + n_items, H]
        return lambda user_index: self._scores(user_index, items)

    def score_grid(self, user_index: Tensor, item_index: Tensor) -> Tensor:
        """Score every user with every item: int64 [B], int64 [M] -> float32 [B, M], as `forward` does.

        Dropout and batch norm see B x M rows.
        """
        return self._scores(user_index, self._item_half(embedding(item_index, self.item_factors)))

    def _item_half(self, item_factors: Tensor) -> Tensor:
        """The items' half of the first Linear: [M, Fi] -> [M, H]."""
        weight = self.layers[0].weight
        assert isinstance(weight, Tensor)
        return item_factors @ weight[:, self.user_factors.shape[1] :].T

    def _scores(self, user_index: Tensor, items: Tensor) -> Tensor:
        """Scores [B, M] of users int64 [B] with items of which the half is there, [M, H]."""
        first = self.layers[0]
        assert isinstance(first, nn.Linear)
        of_users = first.weight[:, : self.user_factors.shape[1]]
        users = linear(embedding(user_index, self.user_factors), of_users, first.bias)  # [B, H]
        hidden = (users[:, None] + items).flatten(0, 1)  # [B * M, H]
        logits = self.layers[1:](hidden).reshape(len(users), len(items))
        return squash(logits, self.y_range)


def squash(logits: Tensor, y_range: YRange) -> Tensor:
    """Squash logits into the range, float32 [N] -> float32 [N]; without a range, return them unchanged."""
    assert y_range != "auto", "a config is resolved before a model is built"
    if y_range is None:
        return logits
    low, high = y_range
    return logits.sigmoid() * (high - low) + low


def squash_slope(scores: Tensor, y_range: YRange) -> Tensor | float:
    """Derivative of `squash` by the logits, where it returned the scores: float32 [N] -> float32 [N] or 1."""
    assert y_range != "auto", "a config is resolved before a model is built"
    if y_range is None:
        return 1.0
    low, high = y_range
    above = scores - low
    return torch.addcmul(above, above, above, value=-1 / (high - low))


def _layers(widths: list[int], batch_norm: bool, dropout: float) -> Iterator[nn.Module]:
    for n_inputs, width in pairwise(widths):
        yield nn.Linear(n_inputs, width, bias=not batch_norm)
        yield nn.ReLU()
        if batch_norm:
            norm = nn.BatchNorm1d(width)
            nn.init.constant_(norm.bias, 1e-3)  # as in fastai
            yield norm
        if dropout > 0:
            yield nn.Dropout(dropout)
    yield nn.Linear(widths[-1], 1)
