"""What all parts of a run are trained with: data, device, folder and reporter."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor, nn

from recsys.data.interactions import Interactions
from recsys.data.splits import Split
from recsys.training.batches import RatingTensors
from recsys.training.device import CompileMode, DeviceName
from recsys.training.distributed import Team
from recsys.training.ranking_sample import RankingSample
from recsys.training.run_folder import RunFolder
from recsys.training.run_info import Iteration, PartInfo, RunInfo
from recsys.training.sharded_tables import ShardedProduct
from recsys.training.tensor_file import ShardedRows, send_tensors

MEASURED_AT_ONCE = 1 << 16
"""Pairs scored at once outside of training: bounds the memory, large enough to keep a GPU busy."""


@dataclass(frozen=True)
class Machine:
    """Where a run is trained; affects its speed and memory, not its result."""

    device: DeviceName = "auto"
    compile: CompileMode = "auto"
    shard_tables: bool = False
    """Whether each of several processes has a share of the tables' rows and of the ratings, and not all."""


@dataclass(frozen=True)
class Reporter:
    """Callbacks on the progress of a run. The defaults do nothing."""

    on_part: Callable[[RunInfo, PartInfo, int], None] = lambda info, part, n_train: None
    """Called before each part, with its history so far and the number of ratings in an epoch."""
    on_progress: Callable[[int], None] = lambda n_ratings: None
    """Called every few steps with the number of ratings done since the last call."""
    on_fit: Callable[[int, int], None] = lambda done, total: None
    """Called during a fit with the number of iterations done, and of all of them."""
    on_iteration: Callable[[Iteration], None] = lambda iteration: None
    """Called after each epoch, once it is on disk; after each iteration of a fit, before it is on disk."""


AUTO = Machine()
SILENT = Reporter()


@dataclass(frozen=True, eq=False)
class Session:
    """One process of the training of one run.

    Where the tables are sharded, `interactions` and `split` are this rank's share.
    """

    interactions: Interactions
    split: Split
    machine: Machine
    reporter: Reporter
    team: Team
    folder: RunFolder | None
    """None: a rank other than 0."""

    @cached_property
    def train(self) -> RatingTensors:
        """The training ratings, or this rank's share, on the device."""
        return self._ratings(self.split.train)

    @cached_property
    def valid(self) -> RatingTensors:
        """The held-out ratings, or this rank's share, on the device."""
        return self._ratings(self.split.valid)

    @cached_property
    def trained_users(self) -> Tensor:
        """Bool [1 + n_users]: whether the user has a training rating."""
        return self._trained(self.train.user_index, self.interactions.n_users)

    @cached_property
    def trained_items(self) -> Tensor:
        """Bool [1 + n_items], likewise."""
        return self._trained(self.train.item_index, self.interactions.n_items)

    @cached_property
    def ranking_sample(self) -> RankingSample:
        """Users whose lists are measured while a part that ranks is trained."""
        return RankingSample.of(self.interactions, self.split)

    def total(self, n: int) -> int:
        """Sum of a number over the ranks, if each has a share of the ratings; else the number."""
        sum_ = torch.tensor(n, device=self.team.device)
        if self.machine.shard_tables:
            self.team.sum(sum_)
        return int(sum_)

    @torch.no_grad()
    def measure(self, model: nn.Module) -> dict[str, float]:
        """`valid_rmse` and `valid_mae` (ratings) on the held-out ratings, if any. Each rank measures its
        share.

        The model is left in eval mode; errors are summed in float64.
        """
        model.eval()
        n = self.total(len(self.split.valid))
        if not n:
            return {}
        squared, absolute = sums = torch.zeros(2, dtype=torch.float64, device=self.team.device)
        share = self.valid if self.machine.shard_tables else self.team.share(self.valid)
        # As many on every rank.
        n_chunks = math.ceil(n / self.team.size / MEASURED_AT_ONCE)
        chunks = (column.tensor_split(n_chunks) for column in share)
        for user_index, item_index, ratings in zip(*chunks, strict=True):
            errors = model(user_index, item_index).double() - ratings.double()
            squared += errors.square().sum()
            absolute += errors.abs().sum()
        self.team.sum(sums)
        return {"valid_rmse": math.sqrt(float(squared) / n), "valid_mae": float(absolute) / n}

    def commit(
        self,
        info: RunInfo,
        number: int,
        history: list[Iteration],
        model: nn.Module,
        optimizer: dict[str, Tensor] | None,
    ) -> RunInfo:
        """Write the state of part `number` after the last iteration of `history`; returns the new info."""
        info = info.with_part(number, history=[*history])
        weights: Mapping[str, Tensor | ShardedRows] = model.state_dict()
        state: Mapping[str, Tensor | ShardedRows] | None = optimizer
        if isinstance(model, ShardedProduct) and optimizer:
            weights, state = (model.over_ranks(part) for part in (model.shard.state_dict(), optimizer))
            if not self.folder:
                send_tensors(weights)
                send_tensors(state)
        return self.folder.commit(info, number, weights, state) if self.folder else info

    def _trained(self, index: Tensor, n: int) -> Tensor:
        counts = torch.bincount(index, minlength=1 + n)
        if self.machine.shard_tables:
            self.team.sum(counts)
        return counts > 0

    def _ratings(self, positions: np.ndarray) -> RatingTensors:
        data = self.interactions
        columns = (
            data.user_index[positions].astype(np.int64),
            data.item_index[positions].astype(np.int64),
            data.ratings[positions].astype(np.float32),
        )
        return RatingTensors(*(torch.from_numpy(column).to(self.team.device) for column in columns))
