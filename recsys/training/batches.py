"""The steps of an epoch, which follow from the seed and the epoch's number, so that a run can be resumed."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor


class RatingTensors(NamedTuple):
    """Ratings on one device: int64 [n], int64 [n], float32 [n]."""

    user_index: Tensor
    item_index: Tensor
    ratings: Tensor


def epoch_seed(seed: int, epoch: int) -> int:
    """Random seed of an epoch; neighbouring seeds and epochs give unrelated ones."""
    return int(np.random.SeedSequence((seed, epoch)).generate_state(1, np.uint64)[0])


def n_batches(n_ratings: int, batch_size: int) -> int:
    """Steps per epoch."""
    return math.ceil(n_ratings / batch_size)


def step_size(n_ratings: int, steps: int, step: int) -> int:
    """Ratings in one of an epoch's steps, counted from 0."""
    return n_ratings // steps + (step < n_ratings % steps)


def shuffled_batches(data: RatingTensors, steps: int, seed: int) -> Iterator[RatingTensors]:
    """Yield every rating once, in random order, in steps whose sizes differ by at most one: `step_size`.

    A small last step would have a noisy gradient and meaningless batch statistics.
    """
    n = len(data.ratings)
    generator = torch.Generator(data.ratings.device).manual_seed(seed)
    order = torch.randperm(n, generator=generator, device=data.ratings.device)
    # Shuffling the columns once is cheaper than gathering three small batches in every step.
    columns = [column[order].tensor_split(steps) for column in data]
    return map(RatingTensors._make, zip(*columns, strict=True))
