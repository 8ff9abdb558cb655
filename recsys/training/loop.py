"""One epoch of training by gradient, and the metrics after it."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from recsys.training.batches import RatingTensors, epoch_seed, n_batches, shuffled_batches
from recsys.training.config import TrainingConfig
from recsys.training.distributed import ALONE, Team
from recsys.training.optimizer import schedule

MEASURE_CHUNK = 1 << 16
"""Pairs scored at once outside of training: bounds the memory, large enough to keep a GPU busy."""
REPORT_EVERY = 32
"""Steps between two reports of progress."""


def train_epoch(
    model: nn.Module,
    forward: Callable[[Tensor, Tensor], Tensor],
    optimizer: torch.optim.AdamW,
    data: RatingTensors,
    config: TrainingConfig,
    seed: int,
    epoch: int,
    on_progress: Callable[[int], None],
    team: Team = ALONE,
) -> float:
    """Train for one epoch, counted from 1; returns the mean squared error over it.

    Args:
        model: trained in place.
        forward: the model, or its compiled form.
        optimizer: of the model's parameters.
        data: training ratings on the model's device.
        config: of the part.
        seed: of the run.
        epoch: with the seed, it determines the order of the ratings and dropout; and the position in the
            schedule.
        on_progress: called with the number of ratings done since its last call.
        team: each rank takes its share of every step.
    """
    seed, device = epoch_seed(seed, epoch), data.ratings.device
    torch.manual_seed((seed + team.rank) % (1 << 63))  # of dropout, on a rank's own rows
    model.train()
    steps = n_batches(len(data.ratings), config.batch_size)
    step = (epoch - 1) * steps
    squared_error = torch.zeros((), dtype=torch.float64, device=device)
    unreported = 0
    for batch in shuffled_batches(data, config.batch_size, seed):
        schedule(optimizer, step, config.epochs * steps, config.learning_rate)
        optimizer.zero_grad()
        n = len(batch.ratings)
        user_index, item_index, ratings = batch if team.size == 1 else team.share(batch)
        with torch.autocast(device.type, torch.bfloat16, enabled=config.precision == "bf16"):
            scores = forward(user_index, item_index)
        if team.size == 1:
            loss = mse_loss(scores, ratings)
        else:
            # The average over the ranks is the mean over the step, though the sizes of shares differ.
            loss = mse_loss(scores, ratings, reduction="sum") * (team.size / n)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        # Stays on the device: reading it would make a GPU wait in every step.
        squared_error += loss.detach() * n
        step += 1
        unreported += n
        if step % REPORT_EVERY == 0:
            on_progress(unreported)
            unreported = 0
    on_progress(unreported)
    team.sum(squared_error)
    return float(squared_error) / (team.size * len(data.ratings))


@torch.no_grad()
def measure(model: nn.Module, data: RatingTensors, team: Team = ALONE) -> dict[str, float]:
    """`valid_rmse` and `valid_mae` (ratings) in eval mode, in float64; each rank measures its share."""
    model.eval()
    squared, absolute = sums = torch.zeros(2, dtype=torch.float64, device=data.ratings.device)
    chunks = (torch.split(column, MEASURE_CHUNK) for column in team.share(data))
    for user_index, item_index, ratings in zip(*chunks, strict=True):
        errors = model(user_index, item_index).double() - ratings.double()
        squared += errors.square().sum()
        absolute += errors.abs().sum()
    team.sum(sums)
    n = len(data.ratings)
    return {"valid_rmse": math.sqrt(float(squared) / n), "valid_mae": float(absolute) / n}
