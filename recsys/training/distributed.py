"""Data-parallel training by several processes that `torchrun` starts; a single process has no process group.

Every process (rank) has all ratings, draws the same order, and takes its share of each step; torch's
DistributedDataParallel averages the gradients. All ranks hold the same weights at all times, those of one
process with the same batch size up to the order of float32 sums. (Dropout and batch norm depend on a rank's
own rows.) Rank 0 writes the run.

Or each rank has a share of the tables' rows and of the ratings: `recsys.training.sharded_tables`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from itertools import pairwise

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from recsys.errors import ConfigError, PeerError
from recsys.training.device import DeviceName, choose_device

CPU = torch.device("cpu")
TIMEOUT = timedelta(minutes=10)
"""How long a rank waits for one that hangs; the end of a process is noticed at once."""
PATIENCE = timedelta(hours=12)
"""How long the others wait while rank 0 reads the ratings."""
ROWS_AT_ONCE = 1 << 15
"""Rows of a table that another rank sends at once: bounds the memory."""


@dataclass(frozen=True)
class Team:
    """The ranks of a training, seen from one of them; by default a single rank, whose collectives do nothing.

    All ranks call its methods in the same order, but for `share` and `bounds`.
    """

    rank: int = 0
    size: int = 1
    device: torch.device = CPU
    """The device of this rank."""
    channel: dist.ProcessGroup | None = None
    """For what rank 0 may need hours for."""

    @property
    def leads(self) -> bool:
        """Whether this rank writes the run and reports progress."""
        return self.rank == 0

    def share(self, columns: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Take this rank's rows of [n] tensors. Shares cover all rows; sizes differ by at most one."""
        if self.size == 1:
            return columns
        rows = slice(*self.bounds(len(columns[0]))[self.rank :][:2])
        return tuple(column[rows] for column in columns)

    def bounds(self, n: int) -> list[int]:
        """The first of each rank's share of n rows, and n."""
        return [n * rank // self.size for rank in range(1 + self.size)]

    def sum(self, tensor: Tensor) -> None:
        """Replace a tensor by its sum over all ranks; every rank gets the same bits."""
        if self.size > 1:
            dist.all_reduce(tensor)

    def exchange(self, rows: Tensor, sent: Sequence[int], received: Sequence[int]) -> Tensor:
        """Send the first rows to rank 0, the next to rank 1, ...: [n, ...] -> those of rank 0, of rank 1, ...

        `sent` and `received` are their numbers, which the ranks know of each other.
        """
        if self.size == 1:
            return rows
        found = rows.new_empty(sum(received), *rows.shape[1:])
        dist.all_to_all_single(found, rows.contiguous(), [*received], [*sent])
        return found

    def collect(self, rows: Tensor, n: int) -> Iterator[Tensor]:
        """Rank 0's and then the other ranks' shares of n rows, a block at a time; nothing on another rank.

        A rank that is not 0 sends its blocks while it iterates.
        """
        for rank, (first, end) in enumerate(pairwise(self.bounds(n))):
            for start in range(first, end, ROWS_AT_ONCE):
                block = slice(start - first, min(start + ROWS_AT_ONCE, end) - first)
                if self.rank == rank and self.leads:
                    yield rows[block]
                elif self.rank == rank:
                    dist.send(rows[block].contiguous(), 0)
                elif self.leads:
                    found = rows.new_empty(block.stop - block.start, *rows.shape[1:])
                    dist.recv(found, rank)
                    yield found

    def tell(self, message: bytes) -> bytes:
        """Rank 0's message, on every rank; the others wait for it as long as `PATIENCE`."""
        if self.size == 1:
            return message
        n_bytes = torch.tensor([len(message)])
        dist.broadcast(n_bytes, 0, self.channel)
        data = torch.zeros(int(n_bytes), dtype=torch.uint8)
        if self.leads:
            data.copy_(torch.frombuffer(bytearray(message), dtype=torch.uint8))
        dist.broadcast(data, 0, self.channel)
        return data.numpy().tobytes()

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
        yield replace(team, channel=dist.new_group(backend="gloo", timeout=PATIENCE))
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
