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

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from recsys.data.interactions import Interactions
from recsys.data.splits import Split
from recsys.errors import CheckpointError, ConfigError
from recsys.models import Config, build, check_resolved, config_from_dict
from recsys.training.run_info import (
    INTERACTIONS,
    ITEMS,
    RUN_NAME,
    USERS,
    WAY_OUT,
    RunInfo,
    describe_file,
    read_info,
)


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
            config = config_from_dict(self.kind, self.info.model.config)
            check_resolved(config)
            return config
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
        """Positions of the training and the held-out ratings in `interactions()`, ascending.

        Raises:
            CheckpointError: columns that can't be, or nothing on one side.
        """
        held_out = self._ratings["held_out"].to_numpy()
        if held_out.all() or not held_out.any():
            raise CheckpointError(
                f"{self.path / INTERACTIONS}: all ratings are on one side of the split. {WAY_OUT}"
            )
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
    info = read_info(path)
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


def _read_tensors(path: Path) -> dict[str, Tensor]:
    try:
        # Copied: what is read lies in one buffer, at odd places, and some kernels round differently there, so
        # that a resumed run would not end with the bits of an unbroken one.
        return {name: tensor.clone() for name, tensor in load_file(path).items()}
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
