"""Several processes that train one model together, as `torchrun` starts them; no process group otherwise.

Every process (rank) knows all ratings, draws the same order, and takes its share of each step; torch's
DistributedDataParallel averages the gradients. So all ranks hold the same weights at all times, and they are
those of one process with the same batch size, up to the order in which float32 sums are taken. (Dropout and
batch norm see a rank's own rows.) Rank 0 writes the run.
"""

from __future__ import annotations

import os
import re
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
PATIENCE = timedelta(minutes=10)
"""How long a rank waits for one that hangs; the end of a process is noticed at once."""


@dataclass(frozen=True)
class Team:
    """The ranks of a training, seen from one of them; by default one, whose collectives do nothing.

    `sum`, `wait`, `align` and `parallel` must be called by all ranks, in the same order.
    """

    rank: int = 0
    size: int = 1
    device: torch.device = CPU
    """The device that this rank trains on."""

    @property
    def leads(self) -> bool:
        """Whether this is the rank that writes the run and reports progress."""
        return self.rank == 0

    def share(self, columns: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Take the rank's rows of [n] tensors; shares cover all rows; their sizes differ by at most one."""
        n = len(columns[0])
        rows = slice(n * self.rank // self.size, n * (self.rank + 1) // self.size)
        return tuple(column[rows] for column in columns)

    def sum(self, tensor: Tensor) -> None:
        """Replace a tensor by its sum over all ranks; every rank gets the same bits."""
        if self.size > 1:
            dist.all_reduce(tensor)

    def wait(self) -> None:
        """Wait until all ranks are here."""
        if self.size > 1:
            dist.barrier()

    def align(self, model: nn.Module) -> None:
        """Copy the lead's buffers to every rank: batch norm's averages depend on a rank's own rows."""
        if self.size > 1:
            for buffer in model.buffers():
                dist.broadcast(buffer, 0)

    def parallel(self, model: nn.Module) -> nn.Module:
        """Wrap the module so that its backward pass averages the gradients of all ranks."""
        return DistributedDataParallel(model) if self.size > 1 else model


ALONE = Team()


def leads() -> bool:
    """Whether this process is the lead, before the process group exists."""
    return not is_launched() or _number("RANK") == 0


def is_launched() -> bool:
    """Whether the environment says that this is one of several processes (RANK, WORLD_SIZE, MASTER_ADDR)."""
    return "MASTER_ADDR" in os.environ and "RANK" in os.environ and _number("WORLD_SIZE", 1) > 1


@contextmanager
def join_team(name: DeviceName) -> Iterator[Team]:
    """Join the process group, and leave it at the end; a process without a launcher is a team of one.

    The backend is NCCL on GPUs, of which each rank has its own, and Gloo on CPUs.

    Args:
        name: the device that was asked for.

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
        dist.init_process_group("nccl" if on_gpus else "gloo", timeout=PATIENCE)
        yield team
    except RuntimeError as error:
        if not _is_of_collectives(error):
            raise
        raise PeerError(
            f"rank {team.rank}: another process of this training has stopped or can't be reached "
            f"({_reason(error)}). Its own message says why. A run that has a whole epoch keeps "
            f"it: continue with --resume."
        ) from error
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()


def _reason(error: RuntimeError) -> str:
    """The first sentence of the message, without the position in the library's source code."""
    line = str(error).splitlines()[0]
    return re.sub(r"^\[[^]]*\] *", "", line).split(". ")[0]


def _is_of_collectives(error: RuntimeError) -> bool:
    """Whether the collectives failed. Gloo's errors are plain RuntimeErrors, known by their text alone."""
    return isinstance(error, dist.DistError) or any(
        word in str(error).lower() for word in ("gloo", "nccl", "connection", "process group")
    )


def _number(variable: str, default: int | None = None) -> int:
    text = os.environ.get(variable, default)
    try:
        return int(text)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        raise ConfigError(
            f"the environment says {variable}={text}, which is no number. Start several processes with "
            f"torchrun, or unset RANK and WORLD_SIZE."
        ) from None
