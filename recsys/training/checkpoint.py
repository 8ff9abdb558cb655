"""A run folder: everything that evaluation and export need of a training run, and nothing pickled.

    run.json                      the parts, their settings and history; names every other file
    weights-1-0003.safetensors    the model of part 1 after epoch 3
    optimizer-1-0003.safetensors  the optimizer's state, of a part that is trained by gradient
    users.parquet                 user_id, in index order (row 1 first)
    items.parquet                 item_id and what the data knows of items, in index order
    interactions.parquet          user_index, item_index, rating, timestamp where known, held_out

`run.json` is replaced last, in one step, so a killed run leaves the last whole epoch. This module reads;
`recsys.training.run_folder` writes. Nothing in a folder is trusted.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

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
from recsys.models import KINDS, Kind, build, config_from_dict, kind_of
from recsys.models.y_range import check_resolved
from recsys.training.run_info import (
    INTERACTIONS,
    ITEMS,
    RUN_NAME,
    USERS,
    WAY_OUT,
    DataInfo,
    PartInfo,
    RunInfo,
    describe_file,
    read_info,
)


@dataclass(frozen=True)
class Part:
    """One model of a run; its files are read and checked on demand."""

    path: Path
    """The run folder."""
    info: PartInfo
    data: DataInfo
    kind: Kind

    @cached_property
    def config(self) -> Any:
        """The model's config, its range resolved.

        Raises:
            CheckpointError: settings that this kind of model does not have.
        """
        try:
            config = config_from_dict(self.kind, self.info.config)
            check_resolved(config)
            return config
        except ConfigError as error:
            raise CheckpointError(f"{self.path / RUN_NAME}: {error}. {WAY_OUT}") from None

    def model(self) -> nn.Module:
        """Build the trained model, on the CPU and in eval mode.

        Raises:
            CheckpointError: weights that are missing, extra, misshapen, mistyped or not finite; or the part
                is not trained yet.
        """
        with torch.device("meta"):  # no memory and no random numbers for weights that are replaced
            model = build(self.kind, self.config, self.data.n_users, self.data.n_items)
        if not self.info.history:
            raise CheckpointError(
                f"{self.path}: part {self.info.kind} is not trained yet: continue with --resume"
            )
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
        assert self.info.optimizer is not None, "a fitted part has no optimizer"
        path = self.path / self.info.optimizer
        tensors = _read_tensors(path)
        _check_finite(path, tensors)
        return tensors


@dataclass(frozen=True)
class Run:
    """A run folder with a valid `run.json` and matching checksums; other contents are checked when read."""

    path: Path
    info: RunInfo

    kinds: Mapping[str, Kind]
    """By name; those that the run's parts may be of."""

    @cached_property
    def parts(self) -> tuple[Part, ...]:
        """Its models, in the order of `run.json`.

        Raises:
            CheckpointError: a kind of model that this release does not have.
        """
        try:
            return tuple(
                Part(self.path, part, self.info.data, kind_of(part.kind, self.kinds))
                for part in self.info.parts
            )
        except ConfigError as error:
            raise CheckpointError(f"{self.path / RUN_NAME}: {error}. {WAY_OUT}") from None

    @property
    def part(self) -> Part:
        """The part that predicts ratings, or the first part where none does."""
        return self.parts[self.info.main]

    @property
    def kind(self) -> str:
        """Name of the main part's kind, as `recsys train --model` spells it."""
        return self.info.part.kind

    @property
    def config(self) -> Any:
        """Config of the main part."""
        return self.part.config

    def model(self) -> nn.Module:
        """Model of the main part; see `Part.model`."""
        return self.part.model()

    def interactions(self) -> Interactions:
        """All ratings, held-out ones too, in the order of the source.

        Raises:
            CheckpointError: a missing or mistyped column, an index out of range, a rating that is not finite.
        """
        users, items = self._frame(USERS, {"user_id"}), self._frame(ITEMS, {"item_id"})
        table = self._ratings
        data = self.info.data
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
        if sizes != (data.n_users, data.n_items, data.n_ratings):
            raise CheckpointError(
                f"{self.path} holds {sizes} users, items and ratings, but its {RUN_NAME} says "
                f"{(data.n_users, data.n_items, data.n_ratings)}. {WAY_OUT}"
            )
        for name, index, n in (
            ("user_index", interactions.user_index, data.n_users),
            ("item_index", interactions.item_index, data.n_items),
        ):
            if len(index) and not 1 <= index.min() <= index.max() <= n:
                raise CheckpointError(f"{self.path / INTERACTIONS}: {name} leaves 1 to {n}. {WAY_OUT}")
        if not np.isfinite(interactions.ratings).all():
            raise CheckpointError(f"{self.path / INTERACTIONS} holds ratings that are not finite. {WAY_OUT}")
        return interactions

    def split(self) -> Split:
        """Positions of the training and the held-out ratings in `interactions()`, ascending.

        Raises:
            CheckpointError: a missing or mistyped column, or nothing on one side.
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


def load_run(path: Path, kinds: Mapping[str, Kind] = KINDS) -> Run:
    """Read a run folder's `run.json` and check every file that it names against its size and SHA-256.

    Raises:
        CheckpointError: not a run folder, another format version, a missing, changed or mistyped file.
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
    named = {USERS, ITEMS, INTERACTIONS}
    for part in info.parts:
        if part.history:
            named |= (
                {part.weights} if part.training is None else {part.weights, part.optimizer or "optimizer"}
            )
    if missing := named - set(info.files):
        raise CheckpointError(f"{path / RUN_NAME} lists no {', '.join(sorted(missing))}. {WAY_OUT}")
    return Run(path, info, kinds)


def _read_tensors(path: Path) -> dict[str, Tensor]:
    try:
        # Copied, because the tensors share one buffer at unaligned addresses, where some kernels round
        # differently: a resumed run would not end with the bits of an unbroken one.
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
