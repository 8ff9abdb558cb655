"""Writing a run folder: each commit adds one whole epoch, or one fitted part.

A new run is written to a hidden folder beside its place and moves there with its first commit; an older run
of that name stays until then. Each later commit adds its files under new names, replaces `run.json`, and only
then removes the old files.

One process at a time writes a folder: it holds a lock on the folder itself, which moves along with the folder
and ends with the process.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Mapping
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from platform import python_version
from typing import Self

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from torch import Tensor

from recsys.data.interactions import Interactions
from recsys.errors import ConfigError
from recsys.training.run_info import (
    INTERACTIONS,
    ITEMS,
    RUN_NAME,
    USERS,
    RunFile,
    RunInfo,
    describe_file,
    encoded,
    is_run,
)
from recsys.training.tensor_file import ShardedRows, write_tensors
from serve.files.atomic import check_target, fsync, move_into_place, write_file
from serve.files.full_disk import told_of_full_disk


class RunFolder:
    """The folder of the run at `path`, locked for writing until the context ends.

    Raises:
        ConfigError: another training writes there.
    """

    def __init__(self, path: Path, *, staging: Path | None = None) -> None:
        self.path = path.absolute()
        self._folder = staging or self.path
        self._locks = [_lock(self._folder, path, fcntl.LOCK_EX)]

    @classmethod
    def create(cls, path: Path, *, overwrite: bool) -> RunFolder:
        """Start a new run; nothing at `path` changes before the first commit.

        Raises:
            ConfigError, OutputError: as `check_free`.
        """
        check_free(path, overwrite)
        staging = staging_of(path)
        with told_of_full_disk(path):
            staging.mkdir(parents=True, exist_ok=True)
        folder = cls(path, staging=staging)
        try:
            if path.exists():  # to be replaced: it must not be resumed meanwhile
                folder._locks.append(_lock(path, path, fcntl.LOCK_EX))
            for left in staging.iterdir():  # files of a killed run
                if left.is_dir() and not left.is_symlink():
                    shutil.rmtree(left)
                else:
                    left.unlink()
        except BaseException:
            folder.__exit__()
            raise
        return folder

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *exception: object) -> None:
        """Remove a run without a commit, and unlock the folder."""
        if self._folder != self.path:
            shutil.rmtree(self._folder, ignore_errors=True)
        for lock in self._locks:
            os.close(lock)

    def write_data(self, interactions: Interactions, held_out: np.ndarray) -> dict[str, RunFile]:
        """Write ids and ratings; `held_out` is bool [n]. Returns the files for `RunInfo.files`."""
        columns = {
            "user_index": interactions.user_index.astype(np.int32, copy=False),
            "item_index": interactions.item_index.astype(np.int32, copy=False),
            "rating": interactions.ratings.astype(np.float32, copy=False),
            "held_out": held_out,
        }
        if interactions.timestamps is not None:
            columns["timestamp"] = interactions.timestamps.astype(np.int64, copy=False)
        tables = {
            USERS: pa.Table.from_pandas(interactions.users, preserve_index=False),
            ITEMS: pa.Table.from_pandas(interactions.items, preserve_index=False),
            INTERACTIONS: pa.table(columns),
        }
        for name, table in tables.items():
            with told_of_full_disk(self.path / name):
                pq.write_table(table, self._folder / name, compression="zstd")
                fsync(self._folder / name)
        return {name: describe_file(self._folder / name) for name in tables}

    def commit(
        self,
        info: RunInfo,
        part: int,
        weights: Mapping[str, Tensor | ShardedRows],
        optimizer: Mapping[str, Tensor | ShardedRows] | None,
    ) -> RunInfo:
        """Write the state of a part, and make `info` the run's; returns it with the names of the new files.

        The history of the part, the one at position `part`, ends with the iteration of the state. `optimizer`
        is None for a part that is fitted.

        Raises:
            FullDiskError, OSError: the disk is full; not writable. The last commit stays.
        """
        old = info.parts[part]
        files = {name: file for name, file in info.files.items() if name not in (old.weights, old.optimizer)}
        names: dict[str, str] = {}
        for what, tensors in (("weights", weights), ("optimizer", optimizer)):
            if tensors is None:
                continue
            name = names[what] = f"{what}-{part + 1}-{old.iterations_done:04d}.safetensors"
            with told_of_full_disk(self.path / name, sum(tensor.nbytes for tensor in tensors.values())):
                write_tensors(self._folder / name, tensors)
                shutil.copymode(self._folder / USERS, self._folder / name)  # safetensors' files are private
                fsync(self._folder / name)
            files[name] = describe_file(self._folder / name)
        info = msgspec.structs.replace(info.with_part(part, **names), files=files)
        write_file(self._folder / RUN_NAME, encoded(info))
        if self._folder != self.path:
            move_into_place(self._folder, self.path, overwrite=True, marker=RUN_NAME)
            shutil.rmtree(self._folder, ignore_errors=True)  # the run that was replaced
            self._folder = self.path
        for pattern in ("weights-*.safetensors", "optimizer-*.safetensors", f".{RUN_NAME}.*.tmp"):
            for path in self._folder.glob(pattern):
                if path.name not in files:
                    path.unlink()
        return info


def check_free(path: Path, overwrite: bool) -> None:
    """Check that a new run can be written to `path`. Only runs are ever overwritten.

    Raises:
        ConfigError: a run is there and `overwrite` is not set, or another training writes there.
        OutputError: a link, a file or another folder is there, or the place is in a bundle.
    """
    check_target(path, overwrite=True, marker=RUN_NAME)
    for folder in (staging_of(path), path):
        if folder.is_dir():  # a shared lock, because every rank of a training checks
            os.close(_lock(folder, path, fcntl.LOCK_SH))
    if is_run(path) and not overwrite:
        raise ConfigError(
            f"{path} holds a run. Continue it with --resume, replace it with --overwrite, or choose another "
            f"--output."
        )


def current_versions() -> dict[str, str]:
    """Versions of Python and of the packages that training depends on."""
    names = ("recsys-onnx", "torch", "numpy", "pandas", "pyarrow", "safetensors")
    return {"python": python_version(), **{name: version(name) for name in names}}


def staging_of(path: Path) -> Path:
    """The folder that a new run at `path` is in before its first commit."""
    path = path.absolute()
    return path.with_name(f".{path.name}.partial")


def _lock(folder: Path, path: Path, kind: int) -> int:
    """Lock a folder of the run at `path`, until the returned descriptor is closed or the process ends.

    Raises:
        ConfigError: another process holds a lock.
    """
    with suppress(FileNotFoundError):  # another process has just moved it
        descriptor = os.open(folder, os.O_RDONLY)
        with suppress(BlockingIOError, FileNotFoundError):
            fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(descriptor), folder.stat()):
                return descriptor
        os.close(descriptor)
    raise ConfigError(f"another training writes {path}: wait for it, stop it, or choose another --output.")
