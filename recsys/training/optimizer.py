"""AdamW on a one-cycle schedule, and its state as plain tensors.

The schedule is Leslie Smith's, "Super-convergence" (arXiv 1708.07120), in the shape of fastai's
`fit_one_cycle`: the learning rate rises and then falls far, and momentum does the opposite.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from recsys.training.run_info import TrainingConfig

# As in fastai. Torch's smaller epsilon lets rarely seen rows take larger first steps.
ADAM_EPS, ADAM_BETA2 = 1e-5, 0.99
RISE = 0.25
"""Fraction of the steps over which the learning rate rises."""
HIGH_MOMENTUM, LOW_MOMENTUM = 0.95, 0.85


def make_optimizer(parameters: Mapping[str, nn.Parameter], config: TrainingConfig) -> torch.optim.AdamW:
    """Make an AdamW. As in fastai, weight decay applies to all parameters but the vectors of layers.

    The biases of users and items are decayed, which keeps the bias of a rarely rated item small.
    """
    decayed: list[nn.Parameter] = []
    exempt: list[nn.Parameter] = []
    for name, parameter in parameters.items():
        (exempt if name.startswith("layers.") and parameter.ndim == 1 else decayed).append(parameter)
    pairs = ((decayed, config.weight_decay), (exempt, 0.0))
    groups = [{"params": group, "weight_decay": decay} for group, decay in pairs if group]
    return torch.optim.AdamW(
        groups, lr=config.learning_rate, betas=(HIGH_MOMENTUM, ADAM_BETA2), eps=ADAM_EPS, fused=True
    )


def one_cycle(step: int, n_steps: int, peak: float) -> tuple[float, float]:
    """Learning rate and momentum (Adam's first beta) of a step, counted from 0, by cosines.

    The learning rate goes from peak / 25 to peak to peak / 100,000; momentum from 0.95 to 0.85 to 0.95.
    """

    def cycle(start: float, middle: float, end: float) -> float:
        position = step / n_steps
        if position < RISE:
            end, position = middle, position / RISE
        else:
            start, position = middle, (position - RISE) / (1 - RISE)
        return start + (1 - math.cos(math.pi * position)) / 2 * (end - start)

    return cycle(peak / 25, peak, peak / 1e5), cycle(HIGH_MOMENTUM, LOW_MOMENTUM, HIGH_MOMENTUM)


def schedule(optimizer: torch.optim.Optimizer, step: int, n_steps: int, peak: float) -> None:
    """Set the learning rate and the momentum of a step."""
    learning_rate, momentum = one_cycle(step, n_steps, peak)
    for group in optimizer.param_groups:
        group.update(lr=learning_rate, betas=(momentum, ADAM_BETA2))


def optimizer_state(
    optimizer: torch.optim.AdamW, parameters: Mapping[str, nn.Parameter]
) -> dict[str, Tensor]:
    """State of every parameter, named `PARAMETER.STATE`."""
    return {
        f"{name}.{key}": value
        for name, parameter in parameters.items()
        for key, value in optimizer.state[parameter].items()
    }


def empty_state(model: nn.Module) -> dict[str, Tensor]:
    """The names and shapes of `optimizer_state`, for tensors on the meta device."""
    return {
        f"{name}.{key}": torch.empty(shape, device="meta")
        for name, parameter in model.named_parameters()
        for key, shape in (("step", ()), ("exp_avg", parameter.shape), ("exp_avg_sq", parameter.shape))
    }


def restore_optimizer(
    optimizer: torch.optim.AdamW, parameters: Mapping[str, nn.Parameter], state: Mapping[str, Tensor]
) -> None:
    """Restore the state that `optimizer_state` returned into a new optimizer."""
    for name, parameter in parameters.items():
        for key in ("step", "exp_avg", "exp_avg_sq"):
            optimizer.state[parameter][key] = state[f"{name}.{key}"].to(parameter.device)
