"""What one step of gradient training does to a model: on all of its parameters, or on the rows it uses."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple, Protocol, TypeGuard

import torch
from torch import Tensor, nn
from torch.func import functional_call

from recsys.models.modules import DotProduct
from recsys.models.tables import ITEM_TABLES, USER_TABLES
from recsys.training.device import SMALL_MODEL, Compilation
from recsys.training.distributed import Team
from recsys.training.optimizer import make_optimizer, one_cycle, optimizer_state, restore_optimizer, schedule
from recsys.training.product_learner import ProductLearner
from recsys.training.run_info import PartInfo, TrainingConfig
from recsys.training.sampled_softmax import Grid
from recsys.training.sparse_adam import MissedSteps, SparseAdamW

ROWS_PER_RATING = 100
"""Users and items for each rating of a step, from which on sparse updates are the quicker ones (measured on a
CPU, 50 factors, steps of 64 to 8,192 ratings: docs/experiments.md)."""


class Learner(Protocol):
    """A model and its optimizer. Each step calls `begin`, `forward` and `finish`."""

    touched: int
    """Parameters that a step changes, at most."""

    def begin(self, step: int, user_index: Tensor, item_index: Tensor) -> tuple[Tensor, Tensor]:
        """Start a step, counted from 0, of all ranks' users and items; returns what `forward` calls them."""

    def forward(self, user_index: Tensor, item_index: Tensor) -> Tensor:
        """Score pairs, int64 [N], int64 [N] -> float32 [N], or a grid, as the part's objective needs."""

    def finish(self, gradient: Tensor) -> None:
        """Change the parameters by the gradient of the loss by the scores, of their shape and dtype."""

    def end_epoch(self) -> None:
        """Bring all parameters up to date."""

    def state(self) -> dict[str, Tensor]:
        """State of the optimizer, named `PARAMETER.STATE`; after `end_epoch`."""


def is_sparse(part: PartInfo, n_users: int, n_items: int) -> bool:
    """Whether a part is trained by sparse updates; "auto": where they pay, and change nothing that shows."""
    config = part.training
    assert config is not None
    if config.sparse_updates == "auto":
        # An mlp ends slightly worse (docs/experiments.md).
        return part.kind != "mlp" and n_users + n_items >= ROWS_PER_RATING * config.batch_size
    return config.sparse_updates == "on"


class Setting(NamedTuple):
    """How a model learns."""

    config: TrainingConfig
    n_steps: int
    """Of all epochs."""
    team: Team
    ranks: bool
    """Whether the objective is "ranking": `forward` scores grids."""
    compilation: Compilation
    """Of `forward`, and so of the backward pass."""


def make_learner(
    model: nn.Module, setting: Setting, state: Mapping[str, Tensor] | None, *, sparse: bool
) -> Learner:
    """The learner of a model; its optimizer is new, or has a `state`."""
    if sparse:
        return _Sparse(model, setting, state)
    if in_closed_form(model, setting):
        return ProductLearner(model, setting, state)
    return DenseLearner(model, setting, state)


def in_closed_form(model: nn.Module, setting: Setting) -> TypeGuard[DotProduct]:
    """Whether `ProductLearner` trains the whole tables of a model: small ones, whose copies are small."""
    if not isinstance(model, DotProduct) or (model.user_biases is None) != (model.item_biases is None):
        return False
    is_small = sum(table.numel() for table in model.parameters()) < SMALL_MODEL
    return is_small and not setting.ranks and setting.team.size == 1 and setting.compilation == "none"


def compiled(function: Callable[..., Tensor], compilation: Compilation) -> Callable[..., Tensor]:
    """The function for any number of ratings; steps have one of two, and each gets CUDA graphs of its own."""
    if compilation == "none":
        return function
    mode = "reduce-overhead" if compilation == "captured" else None
    fast: Callable[..., Tensor] = torch.compile(function, dynamic=True, mode=mode)
    return fast


class DenseLearner:
    """AdamW on all parameters of any model, by autograd."""

    def __init__(self, model: nn.Module, setting: Setting, state: Mapping[str, Tensor] | None) -> None:
        self._model, self._setting = model, setting
        self._optimizer = make_optimizer(dict(model.named_parameters()), setting.config)
        if state:
            restore_optimizer(self._optimizer, dict(model.named_parameters()), state)
        parallel = setting.team.parallel(Grid(model) if setting.ranks else model)
        self._forward = compiled(parallel, setting.compilation)
        self.touched = sum(parameter.numel() for parameter in model.parameters())

    def begin(self, step: int, user_index: Tensor, item_index: Tensor) -> tuple[Tensor, Tensor]:
        """Start a step, counted from 0."""
        schedule(self._optimizer, step, self._setting.n_steps, self._setting.config.learning_rate)
        self._optimizer.zero_grad()
        if self._setting.compilation == "captured":
            # The results of the last step, scores and gradients, may be overwritten.
            torch.compiler.cudagraph_mark_step_begin()  # type: ignore[no-untyped-call]
        return user_index, item_index

    def forward(self, user_index: Tensor, item_index: Tensor) -> Tensor:
        """Score pairs, or a grid."""
        self._scores = self._forward(user_index, item_index)
        return self._scores.detach()

    def finish(self, gradient: Tensor) -> None:
        """Change the parameters."""
        self._scores.backward(gradient)  # type: ignore[no-untyped-call]
        self._optimizer.step()

    def end_epoch(self) -> None:
        """Nothing is left to do."""

    def state(self) -> dict[str, Tensor]:
        """State of the optimizer, named `PARAMETER.STATE`."""
        return optimizer_state(self._optimizer, dict(self._model.named_parameters()))


class _Sparse:
    def __init__(self, model: nn.Module, setting: Setting, state: Mapping[str, Tensor] | None) -> None:
        self._setting, config = setting, setting.config
        parameters = dict(model.named_parameters())
        missed = MissedSteps(config, setting.n_steps, setting.team.device)
        self._sides = [
            SparseAdamW({name: parameters.pop(name) for name in names if name in parameters}, config, missed)
            for names in (USER_TABLES, ITEM_TABLES)
        ]
        self._layers = parameters
        self._optimizer = make_optimizer(parameters, config) if parameters else None
        if state:
            for side in self._sides:
                side.restore(state)
            if self._optimizer:
                restore_optimizer(self._optimizer, parameters, state)
        module, prefix = (Grid(model), "model.") if setting.ranks else (model, "")

        def forward(tables: dict[str, Tensor], user_index: Tensor, item_index: Tensor) -> Tensor:
            named = {f"{prefix}{name}": rows for name, rows in tables.items()}
            scores: Tensor = functional_call(module, named, (user_index, item_index))
            return scores

        # The number of rows varies, and a CUDA graph has fixed sizes.
        self._forward = compiled(forward, "none" if setting.compilation == "none" else "plain")
        self._rows: dict[str, Tensor] = {}
        width = sum(table.shape[1] for side in self._sides for table in side.tables.values())
        self.touched = width * config.batch_size + sum(p.numel() for p in parameters.values())

    def begin(self, step: int, user_index: Tensor, item_index: Tensor) -> tuple[Tensor, Tensor]:
        self._step, self._rows = step, {}
        if self._optimizer:
            schedule(self._optimizer, step, self._setting.n_steps, self._setting.config.learning_rate)
            self._optimizer.zero_grad()
        places = []
        for side, index in zip(self._sides, (user_index, item_index), strict=True):
            rows, inverse = torch.unique(index, return_inverse=True)
            self._rows |= side.take(rows)
            places.append(inverse)
        return places[0], places[1]

    def forward(self, user_index: Tensor, item_index: Tensor) -> Tensor:
        self._scores = self._forward(self._rows, user_index, item_index)
        return self._scores.detach()

    def finish(self, gradient: Tensor) -> None:
        self._scores.backward(gradient)  # type: ignore[no-untyped-call]
        team = self._setting.team
        if team.size > 1:
            # Every rank has the rows of the whole step, so that only their gradients travel.
            for parameter in (*self._rows.values(), *self._layers.values()):
                assert parameter.grad is not None
                team.sum(parameter.grad)
                parameter.grad /= team.size
        if self._optimizer:
            self._optimizer.step()
        for side in self._sides:
            side.step(*one_cycle(self._step, self._setting.n_steps, self._setting.config.learning_rate))

    def end_epoch(self) -> None:
        for side in self._sides:
            side.catch_up()

    def state(self) -> dict[str, Tensor]:
        layers = optimizer_state(self._optimizer, self._layers) if self._optimizer else {}
        return layers | self._sides[0].state() | self._sides[1].state()
