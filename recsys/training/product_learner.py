"""AdamW on all rows of a product's tables, with the gradient of the scores in closed form.

In small steps on small tables, what autograd and `torch.optim` do around the arithmetic takes longer than the
arithmetic. The gradient of a product by the row of one side is the row of the other side. With biases it is a
product too, of longer rows: a user's is (factors, bias, 1), an item's (factors, 1, bias).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.optim.adamw import adamw

from recsys.models.modules import DotProduct, squash, squash_slope
from recsys.training.optimizer import ADAM_BETA2, ADAM_EPS, one_cycle

if TYPE_CHECKING:
    from recsys.training.learner import Setting


class ProductLearner:
    """The `Learner` of a `DotProduct` that scores pairs, with biases of both sides or none, in one process.

    The rows of both sides lie in one tensor, and so do their gradients and each moment, so that AdamW is one
    call. The model gets its weights at the end of an epoch.
    """

    def __init__(self, model: DotProduct, setting: Setting, state: Mapping[str, Tensor] | None) -> None:
        self._setting, self._y_range = setting, model.y_range
        self._model = {name: table.detach() for name, table in model.named_parameters()}
        self.touched = sum(table.numel() for table in self._model.values())
        self._n_factors, has_biases = model.user_factors.shape[1], model.item_biases is not None
        self._n_rows = [len(model.user_factors), len(model.item_factors)]
        shape = sum(self._n_rows), self._n_factors + 2 * has_biases
        self._weights, self._gradients, self._exp_avg, self._exp_avg_sq = (
            torch.zeros(shape, device=model.user_factors.device) for _ in range(4)
        )
        self._users, self._items = torch.split(self._weights, self._n_rows)
        self._user_gradients, self._item_gradients = torch.split(self._gradients, self._n_rows)
        self._ones = [self._users[:, -1], self._items[:, -2]] if has_biases else []
        self._step = torch.zeros((), device=model.user_factors.device)
        self._copy(self._model, self._weights)
        self._write_ones()
        if state:
            self._step.copy_(state["user_factors.step"])
            for key, moment in (("exp_avg", self._exp_avg), ("exp_avg_sq", self._exp_avg_sq)):
                self._copy({name: state[f"{name}.{key}"] for name in self._model}, moment)

    def begin(self, step: int, user_index: Tensor, item_index: Tensor) -> tuple[Tensor, Tensor]:
        """Start a step, counted from 0."""
        self._schedule = one_cycle(step, self._setting.n_steps, self._setting.config.learning_rate)
        return user_index, item_index

    def forward(self, user_index: Tensor, item_index: Tensor) -> Tensor:
        """Score pairs, int64 [N], int64 [N] -> float32 [N]."""
        self._index = user_index, item_index
        self._rows = users, items = (
            self._users.index_select(0, user_index),  # [N, width]
            self._items.index_select(0, item_index),
        )
        self._scores = squash(torch.linalg.vecdot(users, items), self._y_range)
        return self._scores

    def finish(self, gradient: Tensor) -> None:
        """Change the tables by the gradient of the loss by the scores, float32 [N]."""
        (user_index, item_index), (users, items) = self._index, self._rows
        column = (gradient * squash_slope(self._scores, self._y_range)).unsqueeze(1)  # [N, 1]
        self._gradients.zero_()
        self._user_gradients.index_add_(0, user_index, items * column)
        self._item_gradients.index_add_(0, item_index, users * column)
        learning_rate, momentum = self._schedule
        adamw(
            [self._weights],
            [self._gradients],
            [self._exp_avg],
            [self._exp_avg_sq],
            [],
            [self._step],
            fused=True,
            amsgrad=False,
            beta1=momentum,
            beta2=ADAM_BETA2,
            lr=learning_rate,
            weight_decay=self._setting.config.weight_decay,
            eps=ADAM_EPS,
            maximize=False,
        )
        self._write_ones()

    def end_epoch(self) -> None:
        """Copy the weights into the model."""
        for name, columns in self._tables(self._weights).items():
            self._model[name].copy_(columns)

    def state(self) -> dict[str, Tensor]:
        """State of the optimizer, named `TABLE.STATE`."""
        state = {f"{name}.step": self._step.clone() for name in self._model}
        for key, moment in (("exp_avg", self._exp_avg), ("exp_avg_sq", self._exp_avg_sq)):
            state |= {f"{name}.{key}": columns for name, columns in self._tables(moment).items()}
        return state

    def _tables(self, rows: Tensor) -> dict[str, Tensor]:
        """What belongs to each of the model's tables in a tensor like that of all rows."""
        users, items = torch.split(rows, self._n_rows)
        columns = {"user_factors": users[:, : self._n_factors], "item_factors": items[:, : self._n_factors]}
        if self._ones:
            columns |= {"user_biases": users[:, -2:-1], "item_biases": items[:, -1:]}
        return columns

    def _copy(self, tables: Mapping[str, Tensor], rows: Tensor) -> None:
        for name, columns in self._tables(rows).items():
            columns.copy_(tables[name])

    def _write_ones(self) -> None:
        """Undo what an update does to the columns that are no parameters."""
        for column in self._ones:
            column.fill_(1)
