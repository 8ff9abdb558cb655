"""Data-parallel training by several processes that `torchrun` starts; a single process has no process group.

Every process (rank) has all ratings, draws the same order, and takes its share of each step; torch's
DistributedDataParallel averages the gradients. All ranks hold the same weights at all times, those of one
process with the same batch size up to the order of float32 sums. (Dropout and batch norm depend on a rank's
own rows.) Rank 0 writes the run.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from recsys.errors import ConfigError, PeerError
from recsys.training.device import DeviceName, choose_device

CPU = torch.device("cpu")
TIMEOUT = timedelta(minutes=10)
"""How long a rank waits for one that hangs; the end of a process is noticed at once."""


@dataclass(frozen=True)
class Team:
    """The ranks of a training, seen from one of them; by default a single rank, whose collectives do nothing.

    All ranks call `sum`, `wait`, `align` and `parallel` in the same order.
    """

    rank: int = 0
    size: int = 1
    device: torch.device = CPU
    """The device of this rank."""

    @property
    def leads(self) -> bool:
        """Whether this rank writes the run and reports progress."""
        return self.rank == 0

    def share(self, columns: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Take this rank's rows of [n] tensors. Shares cover all rows; sizes differ by at most one."""
        n = len(columns[0])
        rows = slice(n * self.rank // self.size, n * (self.rank + 1) // self.size)
        return tuple(column[rows] for column in columns)

    def sum(self, tensor: Tensor) -> None:
        """Replace a tensor by its sum over all ranks; every rank gets the same bits."""
        if self.size > 1:
            dist.all_reduce(tensor)

    def wait(self) -> None:
        """Wait for all ranks."""
        if self.size > 1:
            dist.barrier()

    def align(self, model: nn.Module) -> None:
        """Copy rank 0's buffers to every rank: batch norm's averages depend on a rank's own rows."""
        if self.size > 1:
            for buffer in model.buffers():
                dist.broadcast(buffer, 0)

    def parallel(self, model: nn.Module) -> nn.Module:
        """Wrap the module so that its backward pass averages the gradients of all ranks."""
        return DistributedDataParallel(model) if self.size > 1 else model


def leads() -> bool:
    """Whether this process is rank 0, before the process group exists."""
    return not is_launched() or _number("RANK") == 0


def is_launched() -> bool:
    """Whether a launcher started several processes (RANK, WORLD_SIZE and MASTER_ADDR are set)."""
    return "MASTER_ADDR" in os.environ and "RANK" in os.environ and _number("WORLD_SIZE", 1) > 1


@contextmanager
def join_team(name: DeviceName) -> Iterator[Team]:
    """Join the process group, and leave it at the end; without a launcher, yield a team of one.

    The backend is NCCL on GPUs, one per rank, and Gloo on CPUs.

    Raises:
        ConfigError: a variable of the launcher is not a number, or the device is not available.
        PeerError: another rank can't be reached, has ended, or hangs.
    """
    if not is_launched():
        yield Team(device=choose_device(name))
        return
    team = Team(_number("RANK"), _number("WORLD_SIZE"), choose_device(name, _number("LOCAL_RANK", 0)))
    on_gpus = team.device.type == "cuda"
    if on_gpus:
        torch.cuda.set_device(team.device)
    try:
        dist.init_process_group("nccl" if on_gpus else "gloo", timeout=TIMEOUT)
        yield team
    except RuntimeError as error:
        text = str(error)
        # Gloo raises plain RuntimeErrors, which only their text tells from others.
        is_gloo = any(word in text.lower() for word in ("gloo", "nccl", "connection", "process group"))
        if not (is_gloo or isinstance(error, dist.DistError)):
            raise
        # The first sentence, without the position in the library's source code.
        reason = text.splitlines()[0].rpartition("] ")[2].split(". ")[0]
        raise PeerError(
            f"rank {team.rank}: another process of this training has stopped or can't be reached ({reason}). "
            f"Its own message says why. Epochs that are on disk are kept: continue with --resume."
        ) from error
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()


def _number(variable: str, default: int | None = None) -> int:
    text = os.environ.get(variable, default)
    try:
        return int(text)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        raise ConfigError(
            f"the environment variable {variable}={text} is not a number. Start several processes with "
            f"torchrun, or unset RANK and WORLD_SIZE."
        ) from None
