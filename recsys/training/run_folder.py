"""Writing a run folder, one whole epoch after another.

A new run starts in a hidden folder beside its place and moves there with its first whole epoch, so that an
older run under the same name stays until there is something to replace it. From then on each epoch adds its
files under new names, `run.json` is replaced, and only then the old files go.

Only one training writes into a folder: it holds a lock on the folder itself, which moves along with it and
which a killed process lets go.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from contextlib import ExitStack, suppress
from importlib.metadata import version
from pathlib import Path
from platform import python_version
from typing import Self

import msgspec
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from safetensors.torch import save_file
from torch import Tensor

from recsys.data.interactions import Interactions
from recsys.errors import ConfigError
from recsys.training.run_info import (
    INTERACTIONS,
    ITEMS,
    RUN_NAME,
    USERS,
    File,
    RunInfo,
    describe_file,
    is_run,
)
from serve.files.atomic import fsync
from serve.files.exchange import exchange


class RunFolder:
    """Where a run is written. `path` is where it will be found. Used in a `with`, which lets go of it."""

    def __init__(self, path: Path, *, staging: Path | None = None) -> None:
        self.path = path.absolute()
        self._folder = staging or self.path
        self._locks = [_lock(self._folder, path, fcntl.LOCK_EX)]

    @classmethod
    def create(cls, path: Path, *, overwrite: bool) -> RunFolder:
        """Start a new run; nothing at `path` changes before its first epoch is committed.

        Raises:
            ConfigError: something is there, and `overwrite` was not asked for, or it is not a run; or another
                training writes there.
        """
        _restore(path)
        check_free(path, overwrite)
        staging = _staging(path)
        staging.mkdir(parents=True, exist_ok=True)
        with ExitStack() as undo:
            run_folder = undo.enter_context(cls(path, staging=staging))
            if path.exists():  # to be replaced: nobody may go on with it meanwhile
                run_folder._locks.append(_lock(path, path, fcntl.LOCK_EX))
            for left in (*staging.iterdir(), _aside(path)):  # by a killed run
                if left.is_dir() and not left.is_symlink():
                    shutil.rmtree(left)
                else:
                    left.unlink(missing_ok=True)
            undo.pop_all()
        return run_folder

    @classmethod
    def resume(cls, path: Path) -> RunFolder:
        """Go on with the run at `path`.

        Raises:
            ConfigError: another training writes there.
        """
        return cls(path)

    def __enter__(self) -> Self:
        """Itself."""
        return self

    def __exit__(self, *exception: object) -> None:
        """Remove what was written of a run that never got its first epoch; let others write here."""
        if self._folder != self.path:
            shutil.rmtree(self._folder, ignore_errors=True)
        for lock in self._locks:
            os.close(lock)

    def write_data(self, interactions: Interactions, held_out: np.ndarray) -> dict[str, File]:
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
            USERS: _table(interactions.users),
            ITEMS: _table(interactions.items),
            INTERACTIONS: pa.table(columns),
        }
        for name, table in tables.items():
            pq.write_table(table, self._folder / name, compression="zstd")
            fsync(self._folder / name)
        return {name: describe_file(self._folder / name) for name in tables}

    def commit(self, info: RunInfo, weights: dict[str, Tensor], optimizer: dict[str, Tensor]) -> RunInfo:
        """Make an epoch the run's last whole one; returns its `RunInfo`.

        Args:
            info: of this epoch; its `weights`, `optimizer` and their `files` entries are filled in here.
            weights: the model's state, on any device.
            optimizer: as `Run.optimizer_state` returns it.

        Raises:
            OSError: not writable, or the disk is full; the last committed epoch stays.
        """
        files = {name: file for name, file in info.files.items() if name in (USERS, ITEMS, INTERACTIONS)}
        names = {}
        for what, tensors in (("weights", weights), ("optimizer", optimizer)):
            name = names[what] = f"{what}-{info.epochs_done:04d}.safetensors"
            contiguous = {key: tensor.detach().cpu().contiguous() for key, tensor in tensors.items()}
            save_file(contiguous, self._folder / name)
            shutil.copymode(self._folder / USERS, self._folder / name)  # safetensors lets only the owner read
            fsync(self._folder / name)
            files[name] = describe_file(self._folder / name)
        info = msgspec.structs.replace(info, files=files, **names)
        beside = self._folder / f".{RUN_NAME}.tmp"
        beside.write_bytes(msgspec.json.format(msgspec.json.encode(info), indent=2) + b"\n")
        fsync(beside)
        beside.replace(self._folder / RUN_NAME)
        fsync(self._folder)
        if self._folder != self.path:
            self._move_into_place()
        for pattern in ("weights-*.safetensors", "optimizer-*.safetensors"):
            for old in self._folder.glob(pattern):
                if old.name not in files:
                    old.unlink()
        return info

    def _move_into_place(self) -> None:
        if self.path.exists():
            _exchange(self._folder, self.path)
        else:
            self._folder.rename(self.path)
        staging, self._folder = self._folder, self.path
        fsync(self.path.parent)
        shutil.rmtree(staging, ignore_errors=True)  # what was replaced


def check_free(path: Path, overwrite: bool) -> None:
    """Refuse a place where a run can't go. Whatever is not a run, is never overwritten.

    Raises:
        ConfigError: something is there, and `overwrite` was not asked for, or it is not a run; or another
            training writes there.
    """
    if path.is_symlink():
        raise ConfigError(f"{path} is a link. Name the folder itself.")
    for folder in (_staging(path), path):
        if folder.is_dir():  # shared: each rank of one training looks
            os.close(_lock(folder, path, fcntl.LOCK_SH))
    if not path.exists() or (path.is_dir() and not any(path.iterdir())):
        return
    if not is_run(path):
        raise ConfigError(f"{path} is there, and it is not a run: it stays. Choose another --output.")
    if not overwrite:
        raise ConfigError(
            f"{path} holds a run. Continue it with --resume, replace it with --overwrite, or choose another "
            f"--output."
        )


def current_versions() -> dict[str, str]:
    """Versions of what takes part in training."""
    names = ("recsys-onnx", "torch", "numpy", "pandas", "pyarrow", "safetensors")
    return {"python": python_version(), **{name: version(name) for name in names}}


def _staging(path: Path) -> Path:
    path = path.absolute()
    return path.with_name(f".{path.name}.partial")


def _aside(path: Path) -> Path:
    path = path.absolute()
    return path.with_name(f".{path.name}.replaced")


def _restore(path: Path) -> None:
    """Bring back a run that was away for a moment, in which the training that was to replace it was killed.

    Raises:
        ConfigError: that training is alive.
    """
    aside = _aside(path)
    if is_run(aside) and not path.exists():
        lock = _lock(aside, path, fcntl.LOCK_EX)
        aside.rename(path)
        os.close(lock)


def _lock(folder: Path, path: Path, kind: int) -> int:
    """A descriptor that holds a lock on a folder of the run at `path`, wherever the folder is moved, until it
    is closed or its process ends.

    Raises:
        ConfigError: another process holds one.
    """
    with suppress(FileNotFoundError):  # the other one has moved it just now
        descriptor = os.open(folder, os.O_RDONLY)
        with suppress(BlockingIOError, FileNotFoundError):
            fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(descriptor), folder.stat()):
                return descriptor
        os.close(descriptor)
    raise ConfigError(f"another training writes {path}: wait for it, stop it, or choose another --output.")


def _exchange(new: Path, old: Path) -> None:
    """Exchange two folders: in one step where the system can; else `old` is away for a moment."""
    if exchange(new, old):
        return
    aside = _aside(old)
    shutil.rmtree(aside, ignore_errors=True)
    try:
        old.rename(aside)
        new.rename(old)
        aside.rename(new)
    except BaseException:
        if not old.exists():
            aside.rename(old)
        raise


def _table(frame: pd.DataFrame) -> pa.Table:
    return pa.Table.from_pandas(frame, preserve_index=False)
