"""AdamW on a one-cycle schedule, and its state as plain tensors."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from recsys.errors import CheckpointError
from recsys.training.config import TrainingConfig
from recsys.training.one_cycle import learning_rate_at, momentum_at
from recsys.training.run_info import WAY_OUT

ADAM_EPS = 1e-5
ADAM_BETA2 = 0.99
"""Both as in fastai. Torch's smaller epsilon lets rarely seen rows take larger first steps."""


def make_optimizer(model: nn.Module, config: TrainingConfig) -> torch.optim.AdamW:
    """Make an Adam with decoupled weight decay on all parameters but, as in fastai, the vectors of layers.

    The biases of users and items are decayed: this is what keeps a rarely rated film's bias small.
    """
    decayed: list[nn.Parameter] = []
    kept: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        is_layer_vector = name.startswith("layers.") and parameter.ndim == 1
        (kept if is_layer_vector else decayed).append(parameter)
    groups = [{"params": decayed, "weight_decay": config.weight_decay}]
    if kept:
        groups.append({"params": kept, "weight_decay": 0.0})
    betas = (momentum_at(0, 1), ADAM_BETA2)
    return torch.optim.AdamW(groups, lr=config.learning_rate, betas=betas, eps=ADAM_EPS, fused=True)


def schedule(optimizer: torch.optim.Optimizer, step: int, n_steps: int, highest: float) -> None:
    """Set the learning rate and the momentum of a step."""
    for group in optimizer.param_groups:
        group["lr"] = learning_rate_at(step, n_steps, highest)
        group["betas"] = (momentum_at(step, n_steps), ADAM_BETA2)


def optimizer_state(optimizer: torch.optim.AdamW, model: nn.Module) -> dict[str, Tensor]:
    """State of every parameter, named `PARAMETER.STATE`."""
    return {
        f"{name}.{key}": value
        for name, parameter in model.named_parameters()
        for key, value in optimizer.state[parameter].items()
    }


def restore_optimizer(
    optimizer: torch.optim.AdamW, model: nn.Module, state: dict[str, Tensor], path: Path
) -> None:
    """Restore the state that `optimizer_state` returned into a new optimizer; `path` is named in errors.

    Raises:
        CheckpointError: the state of another model's optimizer.
    """
    expected = {
        f"{name}.{key}": shape
        for name, parameter in model.named_parameters()
        for key, shape in (("step", ()), ("exp_avg", parameter.shape), ("exp_avg_sq", parameter.shape))
    }
    shapes = {name: tensor.shape for name, tensor in state.items() if tensor.dtype == torch.float32}
    if shapes != expected:
        wrong = sorted(name for name in {*expected, *state} if shapes.get(name) != expected.get(name))
        raise CheckpointError(f"{path} is not this model's: wrong or missing {', '.join(wrong)}. {WAY_OUT}")
    for name, parameter in model.named_parameters():
        for key in ("step", "exp_avg", "exp_avg_sq"):
            optimizer.state[parameter][key] = state[f"{name}.{key}"].to(parameter.device)
