"""One epoch of training, and the measuring after it."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from recsys.training.batches import Ratings, epoch_seed, n_batches, shuffled_batches
from recsys.training.config import Precision, TrainingConfig
from recsys.training.optimizer import schedule

MEASURE_CHUNK = 1 << 16
"""Pairs scored at once outside of training: bounds the memory, large enough to keep a GPU busy."""
REPORT_EVERY = 32
"""Steps between two reports of progress."""


class Errors(NamedTuple):
    """Errors in ratings."""

    rmse: float
    mae: float


def train_epoch(
    model: nn.Module,
    forward: Callable[[Tensor, Tensor], Tensor],
    optimizer: torch.optim.AdamW,
    data: Ratings,
    config: TrainingConfig,
    epoch: int,
    on_progress: Callable[[int], None],
) -> float:
    """Train for one epoch, counted from 1; returns the mean squared error over it.

    Args:
        model: trained in place.
        forward: the model, or its compiled form.
        optimizer: of the model's parameters.
        data: training ratings on the model's device.
        config: the run's settings.
        epoch: decides the order of the ratings, dropout, and the place in the schedule.
        on_progress: called with the number of ratings done since its last call.
    """
    seed = epoch_seed(config.seed, epoch)
    torch.manual_seed(seed)  # dropout
    model.train()
    steps = n_batches(len(data.ratings), config.batch_size)
    step = (epoch - 1) * steps
    squared_error = torch.zeros((), dtype=torch.float64, device=data.ratings.device)
    unreported = 0
    for batch in shuffled_batches(data, config.batch_size, seed):
        schedule(optimizer, step, config.epochs * steps, config.learning_rate)
        optimizer.zero_grad()
        with autocast(config.precision, data.ratings.device):
            scores = forward(batch.user_index, batch.item_index)
        loss = mse_loss(scores, batch.ratings)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        # Kept on the device: reading it here would make a GPU wait in every step.
        squared_error += loss.detach() * len(batch.ratings)
        step += 1
        unreported += len(batch.ratings)
        if step % REPORT_EVERY == 0:
            on_progress(unreported)
            unreported = 0
    on_progress(unreported)
    return float(squared_error) / len(data.ratings)


def autocast(precision: Precision, device: torch.device) -> AbstractContextManager[object]:
    """The context in which `precision` holds."""
    return torch.autocast(device.type, torch.bfloat16) if precision == "bf16" else nullcontext()


@torch.no_grad()
def measure(model: nn.Module, data: Ratings) -> Errors:
    """Errors of the model in eval mode, summed in float64."""
    model.eval()
    squared, absolute = torch.zeros(2, dtype=torch.float64, device=data.ratings.device)
    for user_index, item_index, ratings in zip(*(torch.split(c, MEASURE_CHUNK) for c in data), strict=True):
        errors = model(user_index, item_index).double() - ratings.double()
        squared += errors.square().sum()
        absolute += errors.abs().sum()
    n = len(data.ratings)
    return Errors(rmse=math.sqrt(float(squared) / n), mae=float(absolute) / n)
