"""A run folder: everything that evaluation and export need of a training run, and nothing pickled.

    run.json                    what was trained on what, how, and how it went; names every other file
    weights-0003.safetensors    the model after epoch 3
    optimizer-0003.safetensors  what a resumed run needs besides
    users.parquet               user_id, in index order (row 1 first)
    items.parquet               item_id and what the data knows of items, in index order
    interactions.parquet        user_index, item_index, rating, timestamp where known, held_out

`run.json` is replaced last, in one step, so a killed run leaves the last whole epoch. This module reads;
`recsys.training.run_folder` writes. Nothing in a folder is trusted.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from recsys.data.interactions import Interactions
from recsys.data.splits import Split, SplitRecipe
from recsys.errors import CheckpointError, ConfigError
from recsys.models import Config, build, config_from_dict
from recsys.training.config import TrainingConfig

FORMAT_VERSION = 1
RUN_NAME = "run.json"
USERS, ITEMS, INTERACTIONS = "users.parquet", "items.parquet", "interactions.parquet"
WAY_OUT = "Train it again (`recsys train … --overwrite`), or take another copy of the folder."


class File(msgspec.Struct, frozen=True, kw_only=True):
    """A file of the run."""

    bytes: int
    sha256: str


class ModelInfo(msgspec.Struct, frozen=True, kw_only=True):
    """What was trained. `n_users` and `n_items` leave out row 0."""

    kind: str
    config: dict[str, Any]
    n_users: int
    n_items: int


class DataInfo(msgspec.Struct, frozen=True, kw_only=True):
    """What it was trained on. `ratings_range` is over all ratings, held-out ones too."""

    name: str
    sha256: str
    licence: str
    item_key: str
    n_ratings: int
    n_held_out: int
    ratings_range: tuple[float, float]


class Epoch(msgspec.Struct, frozen=True, kw_only=True):
    """How one epoch went. Errors in ratings, on the held-out part; None where nothing is held out."""

    epoch: int
    """Counted from 1."""
    train_loss: float
    """Mean squared error over the epoch's steps, as the weights were at each."""
    valid_rmse: float | None
    valid_mae: float | None
    seconds: float


class RunInfo(msgspec.Struct, frozen=True, kw_only=True):
    """The whole of `run.json`."""

    format_version: int
    model: ModelInfo
    data: DataInfo
    split: SplitRecipe
    training: TrainingConfig
    device: str
    history: list[Epoch]
    weights: str
    """Name of the file with the model's state after the last epoch of `history`."""
    optimizer: str
    files: dict[str, File]
    versions: dict[str, str]

    @property
    def epochs_done(self) -> int:
        """Number of whole epochs in the folder."""
        return len(self.history)

    @property
    def metrics(self) -> dict[str, float]:
        """`rmse` and `mae` (ratings) on the held-out part, after the last epoch; empty without one."""
        last = self.history[-1]
        if last.valid_rmse is None or last.valid_mae is None:
            return {}
        return {"rmse": last.valid_rmse, "mae": last.valid_mae}


class _Versioned(msgspec.Struct, frozen=True, kw_only=True):
    format_version: int


@dataclass(frozen=True)
class Run:
    """A run folder whose `run.json` and checksums are in order; the rest is read and checked on demand."""

    path: Path
    info: RunInfo

    @property
    def kind(self) -> str:
        """The kind of model, as `recsys train --model` names it."""
        return self.info.model.kind

    @cached_property
    def config(self) -> Config:
        """The model's config, its range resolved.

        Raises:
            CheckpointError: settings that this kind of model does not have.
        """
        try:
            return config_from_dict(self.kind, self.info.model.config)
        except ConfigError as error:
            raise CheckpointError(f"{self.path / RUN_NAME}: {error}. {WAY_OUT}") from None

    def model(self) -> nn.Module:
        """Build the trained model, on the CPU and in eval mode.

        Raises:
            CheckpointError: weights that are missing, extra, misshapen, mistyped or not finite.
        """
        with torch.device("meta"):  # no memory and no random numbers for weights that are replaced
            model = build(self.kind, self.config, self.info.model.n_users, self.info.model.n_items)
        path = self.path / self.info.weights
        weights = _read_tensors(path)
        _check_tensors(path, weights, model.state_dict())
        model.load_state_dict(weights, assign=True)
        return model.eval()

    def optimizer_state(self) -> dict[str, Tensor]:
        """Tensors of the optimizer, named `PARAMETER.STATE`.

        Raises:
            CheckpointError: not readable, or not finite.
        """
        path = self.path / self.info.optimizer
        tensors = _read_tensors(path)
        _check_finite(path, tensors)
        return tensors

    def interactions(self) -> Interactions:
        """All ratings, held-out ones too, in the order of the source.

        Raises:
            CheckpointError: columns or values that can't be.
        """
        users, items = self._frame(USERS, {"user_id"}), self._frame(ITEMS, {"item_id"})
        table = self._ratings
        data, model = self.info.data, self.info.model
        interactions = Interactions(
            name=data.name,
            sha256=data.sha256,
            licence=data.licence,
            item_key=data.item_key,
            users=users,
            items=items,
            user_index=table["user_index"].to_numpy(),
            item_index=table["item_index"].to_numpy(),
            ratings=table["rating"].to_numpy(),
            timestamps=table["timestamp"].to_numpy() if "timestamp" in table.column_names else None,
        )
        sizes = (interactions.n_users, interactions.n_items, len(interactions))
        if sizes != (model.n_users, model.n_items, data.n_ratings):
            raise CheckpointError(
                f"{self.path} holds {sizes} users, items and ratings, but its {RUN_NAME} says "
                f"{(model.n_users, model.n_items, data.n_ratings)}. {WAY_OUT}"
            )
        for name, index, n in (
            ("user_index", interactions.user_index, model.n_users),
            ("item_index", interactions.item_index, model.n_items),
        ):
            if len(index) and not 1 <= index.min() <= index.max() <= n:
                raise CheckpointError(f"{self.path / INTERACTIONS}: {name} leaves 1 to {n}. {WAY_OUT}")
        if not np.isfinite(interactions.ratings).all():
            raise CheckpointError(f"{self.path / INTERACTIONS} holds ratings that are not finite. {WAY_OUT}")
        return interactions

    def split(self) -> Split:
        """Positions of the training and the held-out ratings in `interactions()`, ascending."""
        held_out = self._ratings["held_out"].to_numpy()
        return Split(train=np.flatnonzero(~held_out), valid=np.flatnonzero(held_out))

    @cached_property
    def _ratings(self) -> pa.Table:
        path = self.path / INTERACTIONS
        table = _read_table(path)
        types = {
            "user_index": pa.int32(),
            "item_index": pa.int32(),
            "rating": pa.float32(),
            "held_out": pa.bool_(),
        }
        for name, dtype in types.items():
            if name not in table.column_names or table[name].type != dtype or table[name].null_count:
                raise CheckpointError(f"{path}: column {name!r} is not {dtype} without gaps. {WAY_OUT}")
        return table

    def _frame(self, name: str, columns: set[str]) -> pd.DataFrame:
        frame: pd.DataFrame = _read_table(self.path / name).to_pandas()
        if missing := columns - set(frame.columns):
            raise CheckpointError(f"{self.path / name} has no column {', '.join(missing)}. {WAY_OUT}")
        return frame


def load_run(path: Path) -> Run:
    """Read a run folder's `run.json` and check every file that it names against its size and SHA-256.

    Raises:
        CheckpointError: not a run folder, an unknown format version, a missing, changed or mistyped part.
    """
    info = _read_info(path)
    for name, file in info.files.items():
        if Path(name).name != name:
            raise CheckpointError(
                f"{path / RUN_NAME} names a file outside of the folder: {name!r}. {WAY_OUT}"
            )
        try:
            found = describe_file(path / name)
        except OSError as error:
            raise CheckpointError(f"{path / name} can't be read: {error.strerror}. {WAY_OUT}") from None
        if found != file:
            raise CheckpointError(
                f"{path / name} is damaged: {found.bytes} bytes with SHA-256 {found.sha256}, where "
                f"{RUN_NAME} says {file.bytes} bytes with {file.sha256}. {WAY_OUT}"
            )
    if missing := {info.weights, info.optimizer, USERS, ITEMS, INTERACTIONS} - set(info.files):
        raise CheckpointError(f"{path / RUN_NAME} lists no {', '.join(sorted(missing))}. {WAY_OUT}")
    if not info.history:
        raise CheckpointError(f"{path / RUN_NAME} holds no whole epoch. {WAY_OUT}")
    return Run(path, info)


def is_run(path: Path) -> bool:
    """Whether the folder says that it is a run; it may still be damaged."""
    return (path / RUN_NAME).is_file()


def describe_file(path: Path) -> File:
    """Size (bytes) and SHA-256 of a file.

    Raises:
        OSError: it can't be read.
    """
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        return File(bytes=file.tell(), sha256=digest)


def _read_info(path: Path) -> RunInfo:
    try:
        raw = (path / RUN_NAME).read_bytes()
    except FileNotFoundError:
        what = f"has no {RUN_NAME}" if path.is_dir() else "is not a folder"
        raise CheckpointError(f"{path} {what}: it is not a run. `recsys train` makes one.") from None
    except OSError as error:
        raise CheckpointError(f"{path / RUN_NAME} can't be read: {error.strerror}") from None
    try:
        version = msgspec.json.decode(raw, type=_Versioned).format_version
        if version != FORMAT_VERSION:
            raise CheckpointError(
                f"{path / RUN_NAME}: format version {version}; this release knows version {FORMAT_VERSION}. "
                f"Train again, or install the release that wrote it."
            )
        return msgspec.json.decode(raw, type=RunInfo)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise CheckpointError(f"{path / RUN_NAME} is not valid: {error}. {WAY_OUT}") from None


def _read_tensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} can't be read: {error}. {WAY_OUT}") from None


def _read_table(path: Path) -> pa.Table:
    try:
        return pq.read_table(path)
    except (pa.ArrowException, OSError) as error:
        raise CheckpointError(f"{path} can't be read: {error}. {WAY_OUT}") from None


def _check_tensors(path: Path, found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    if set(found) != set(expected):
        names = (", ".join(sorted(tensors)) for tensors in (found, expected))
        raise CheckpointError("{} holds {}, but the model has {}. {}".format(path, *names, WAY_OUT))
    for name, tensor in expected.items():
        if found[name].shape != tensor.shape or found[name].dtype != tensor.dtype:
            raise CheckpointError(
                f"{path}: {name} is {found[name].dtype} {list(found[name].shape)}, but the model has "
                f"{tensor.dtype} {list(tensor.shape)}. {WAY_OUT}"
            )
    _check_finite(path, found)


def _check_finite(path: Path, tensors: dict[str, Tensor]) -> None:
    for name, tensor in tensors.items():
        if not torch.isfinite(tensor).all():
            raise CheckpointError(f"{path}: {name} holds values that are not finite. {WAY_OUT}")
