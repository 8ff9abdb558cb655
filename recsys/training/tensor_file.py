"""Writing safetensors files, also of tables that no process holds whole."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from recsys.training.distributed import Team

ALIGNMENT = 8
"""Of the header's size, in bytes."""


@dataclass(frozen=True)
class ShardedRows:
    """A table float32 [n_rows, F] over the ranks of a team; `own` are this rank's rows."""

    own: Tensor
    n_rows: int
    team: Team

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the whole table."""
        return (self.n_rows, *self.own.shape[1:])

    @property
    def nbytes(self) -> int:
        """Of the whole table."""
        return 4 * math.prod(self.shape)

    def blocks(self) -> Iterator[Tensor]:
        """On rank 0 the table in blocks of rows; other ranks send theirs while they iterate."""
        return self.team.collect(self.own, self.n_rows)


def write_tensors(path: Path, tensors: Mapping[str, Tensor | ShardedRows]) -> None:
    """Write tensors; of sharded tables on rank 0, while other ranks call `send_tensors` with the same names.

    Beside sharded tables there are only float32 tensors, and one block of rows is held at a time. The bytes
    are those of `safetensors.torch.save_file`.

    Raises:
        OSError, SafetensorError: the file can't be written.
    """
    whole = {
        name: tensor.detach().cpu().contiguous()
        for name, tensor in tensors.items()
        if isinstance(tensor, Tensor)
    }
    if len(whole) == len(tensors):
        save_file(whole, path)
        return
    assert all(tensor.dtype == torch.float32 for tensor in whole.values())
    names = sorted(tensors)
    header, end = {}, 0
    for name in names:
        start, end = end, end + tensors[name].nbytes
        header[name] = {"dtype": "F32", "shape": [*tensors[name].shape], "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % ALIGNMENT)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name in names:
            for block in _blocks(tensors[name]):
                file.write(block.detach().cpu().contiguous().numpy().tobytes())


def send_tensors(tensors: Mapping[str, Tensor | ShardedRows]) -> None:
    """Send this rank's rows to rank 0, which calls `write_tensors`."""
    for name in sorted(tensors):
        for _ in _blocks(tensors[name]):
            pass


def _blocks(tensor: Tensor | ShardedRows) -> Iterator[Tensor]:
    return tensor.blocks() if isinstance(tensor, ShardedRows) else iter([tensor])
