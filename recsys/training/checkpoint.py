"""Reading a run folder: everything that evaluation and export need of a training run. Nothing is pickled.

    run.json                      parts, settings and history; names every other file
    weights-1-0003.safetensors    the model of part 1 after epoch 3
    optimizer-1-0003.safetensors  the state of its optimizer, if it is trained by gradient
    users.parquet                 user_id, in index order (row 1 first), and what is known of users
    items.parquet                 item_id, titles, genres, years and what else is known, in index order
    interactions.parquet          user_index, item_index, rating, timestamp if known, held_out

`run.json` is replaced last, in one step, so a killed run keeps the last whole epoch. All contents are
checked. `recsys.training.run_folder` writes.
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
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from recsys.data.interactions import Interactions
from recsys.data.splits import Split
from recsys.errors import CheckpointError, ConfigError
from recsys.models import Kind, build, config_from_dict, kind_of
from recsys.models.rating_unit import in_ratings, in_unit
from recsys.models.side_by_side import side_by_side
from recsys.models.y_range import check_resolved
from recsys.training.optimizer import empty_state
from recsys.training.run_info import (
    INTERACTIONS,
    ITEMS,
    RUN_NAME,
    USERS,
    DataInfo,
    PartInfo,
    RunInfo,
    damaged,
    describe_file,
    read_info,
)

ID_TYPES = (pa.int64(), pa.string(), pa.large_string())
RATING_COLUMNS = {
    "user_index": pa.int32(),
    "item_index": pa.int32(),
    "rating": pa.float32(),
    "held_out": pa.bool_(),
}


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
            raise damaged(self.path / RUN_NAME, f"is not valid: {error}") from None

    def model(self) -> nn.Module:
        """Build the trained model, on the CPU and in eval mode.

        Raises:
            CheckpointError: as `trained_model`.
        """
        return in_ratings(self.trained_model(), self.config, self.info.rating_unit)

    def trained_model(self) -> Any:
        """Build the model as it is trained, of ratings divided by `rating_unit`; likewise.

        Raises:
            CheckpointError: missing, extra or non-finite weights, wrong shapes or dtypes; or the part is not
                trained yet.
        """
        model = self.without_weights()
        if not self.info.history:
            raise CheckpointError(
                f"{self.path}: part {self.info.kind} is not trained yet: continue with --resume"
            )
        model.load_state_dict(_read_tensors(self.path / self.info.weights, model.state_dict()), assign=True)
        return model.eval()

    def optimizer_state(self, model: nn.Module) -> dict[str, Tensor]:
        """State of the model's optimizer, as `recsys.training.optimizer.optimizer_state` returns it.

        Raises:
            CheckpointError: as `model`.
        """
        assert self.info.optimizer is not None, "a fitted part has no optimizer"
        return _read_tensors(self.path / self.info.optimizer, empty_state(model))

    def rows(self, owned: Mapping[str, slice]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Rows of the weights and of the optimizer's state, by the names of the tables.

        Raises:
            CheckpointError: as `model`.
        """
        assert self.info.optimizer is not None
        model = self.without_weights()
        state = empty_state(model)
        moments = {name: owned[name.partition(".")[0]] for name, tensor in state.items() if tensor.ndim}
        return (
            _read_tensors(self.path / self.info.weights, model.state_dict(), owned),
            _read_tensors(self.path / self.info.optimizer, state, moments),
        )

    def without_weights(self) -> nn.Module:
        """Build the model as it is trained, on the meta device."""
        with torch.device("meta"):  # no memory and no random numbers for weights that are replaced
            config = in_unit(self.config, self.info.rating_unit)
            return build(self.kind, config, self.data.n_users, self.data.n_items)


@dataclass(frozen=True)
class Run:
    """A run folder with a valid `run.json` and matching checksums; other contents are checked on demand."""

    path: Path
    info: RunInfo

    @cached_property
    def parts(self) -> tuple[Part, ...]:
        """The models, in the order of `run.json`.

        Raises:
            CheckpointError: a kind of model that this release does not have.
        """
        try:
            return tuple(
                Part(self.path, part, self.info.data, kind_of(part.kind)) for part in self.info.parts
            )
        except ConfigError as error:
            raise damaged(self.path / RUN_NAME, f"is not valid: {error}") from None

    @property
    def part(self) -> Part:
        """The part that predicts ratings, or else the first part."""
        return self.parts[self.info.main]

    def model(self) -> nn.Module:
        """The model of the scores: that of the part that predicts ratings, or else `ranking_model`."""
        return self.part.model() if self.info.part.objective == "ratings" else self.ranking_model()

    @property
    def ranking_parts(self) -> list[tuple[Part, float]]:
        """The parts that order the lists beside the scores, and their weights; none: the scores do it."""
        parts = [(part, part.info.weight) for part in self.parts if part.info.objective == "ranking"]
        if parts and self.info.rating_weight and self.info.part.objective == "ratings":
            parts.append((self.part, self.info.rating_weight))
        return parts

    def ranking_model(self) -> nn.Module:
        """The model that orders the lists: of the ranking parts side by side, or else of the scores.

        Raises:
            CheckpointError: as `Part.model`.
            ConfigError: several parts rank, and one is not a product.
        """
        if not self.ranking_parts:
            return self.part.model()
        parts, weights = zip(*self.ranking_parts, strict=True)
        return side_by_side([part.model() for part in parts], weights)

    def interactions(self) -> Interactions:
        """All ratings, held-out ones too, in the order of the source.

        Raises:
            CheckpointError: a missing or mistyped column, an index out of range, a rating that is not finite.
        """
        table, data = self._ratings, self.info.data
        users, items = (
            _read_ids(self.path / name, column) for name, column in ((USERS, "user_id"), (ITEMS, "item_id"))
        )
        sizes = {"users": len(users), "items": len(items), "ratings": len(table)}
        if sizes != {"users": data.n_users, "items": data.n_items, "ratings": data.n_ratings}:
            raise damaged(self.path, f"holds {sizes}, which is not what {RUN_NAME} says")
        check_ratings(self.path / INTERACTIONS, table, data)
        return Interactions(
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
            implicit=data.implicit,
        )

    def split(self) -> Split:
        """Positions of the training and the held-out ratings in `interactions()`, ascending.

        Raises:
            CheckpointError: a missing or mistyped column, or a part that is empty and may not be.
        """
        held_out = self._ratings["held_out"].to_numpy()
        if held_out.all() or held_out.any() != self.info.split.holds_out:
            raise damaged(self.path / INTERACTIONS, "has all ratings in one part of the split")
        return Split(train=np.flatnonzero(~held_out), valid=np.flatnonzero(held_out))

    @cached_property
    def _ratings(self) -> pa.Table:
        return _read_table(self.path / INTERACTIONS, RATING_COLUMNS, {"timestamp": pa.int64()})


def load_run(path: Path) -> Run:
    """Read a run folder's `run.json` and check the size and SHA-256 of every file that it names.

    Raises:
        CheckpointError: not a run folder, another format version, a missing or changed file.
    """
    info = read_info(path)
    for name, file in info.files.items():
        if Path(name).name != name:
            raise damaged(path / RUN_NAME, f"names a file outside of the folder: {name!r}")
        try:
            found = describe_file(path / name)
        except OSError as error:
            raise damaged(path / name, f"can't be read: {error.strerror}") from None
        if found != file:
            raise damaged(
                path / name,
                f"is damaged: {found.bytes} bytes with SHA-256 {found.sha256}, but {RUN_NAME} says "
                f"{file.bytes} with {file.sha256}",
            )
    named = {USERS, ITEMS, INTERACTIONS}
    for part in info.parts:
        if part.history:
            named |= {part.weights, (part.optimizer or "optimizer") if part.training else part.weights}
    if missing := named - set(info.files):
        raise damaged(path / RUN_NAME, f"lists no {', '.join(sorted(missing))}")
    return Run(path, info)


def check_ratings(path: Path, table: pa.Table, data: DataInfo) -> None:
    """Check the values of ratings that were read from `path`.

    Raises:
        CheckpointError: an index out of range, a rating that is not finite.
    """
    for name, n in (("user_index", data.n_users), ("item_index", data.n_items)):
        index = table[name].to_numpy()
        if len(index) and not 1 <= index.min() <= index.max() <= n:
            raise damaged(path, f"has a {name} outside of 1 to {n}")
    if not np.isfinite(table["rating"].to_numpy()).all():
        raise damaged(path, "has ratings that are not finite")


def _read_tensors(
    path: Path, expected: Mapping[str, Tensor], rows: Mapping[str, slice] | None = None
) -> dict[str, Tensor]:
    """Read tensors with the names, shapes and dtypes of those expected; or some rows of them, by name."""
    try:
        found = load_file(path)
    except (SafetensorError, OSError) as error:
        raise damaged(path, f"can't be read: {error}") from None
    types = [{name: (t.dtype, t.shape) for name, t in tensors.items()} for tensors in (found, expected)]
    if wrong := sorted(dict(types[0].items() ^ types[1].items())):
        raise damaged(path, f"does not fit the model: missing, extra or of another type: {', '.join(wrong)}")
    # Copied, because the tensors share one buffer at unaligned addresses, where some kernels round
    # differently: a resumed run would differ from an uninterrupted one.
    wanted = rows or {}
    found = {name: tensor[wanted.get(name, ...)].clone() for name, tensor in found.items()}
    for name, tensor in found.items():
        # Of the extremes, which a NaN would be: `isfinite` of a table makes a copy of it.
        if tensor.numel() and not torch.isfinite(torch.stack(tensor.aminmax())).all():
            raise damaged(path, f"has values in {name} that are not finite")
    return found


def _read_table(
    path: Path, columns: Mapping[str, pa.DataType], optional: Mapping[str, pa.DataType] = {}
) -> pa.Table:
    """Read a table, and check that columns are there, have their types, and have no nulls."""
    try:
        table = pq.read_table(path)
        table.validate(full=True)  # text that is not UTF-8
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise damaged(path, f"can't be read: {error}") from None
    there = {name: kind for name, kind in optional.items() if name in table.column_names}
    check_columns(path, table, {**columns, **there})
    return table


def check_columns(path: Path, table: pa.Table, columns: Mapping[str, pa.DataType]) -> None:
    """Check that columns are there, have their types, and have no nulls.

    Raises:
        CheckpointError: they are not, in the table that was read from `path`.
    """
    for name, kind in columns.items():
        if name not in table.column_names or table[name].type != kind or table[name].null_count:
            raise damaged(path, f"has no column {name} of type {kind} without nulls")


def _read_ids(path: Path, column: str) -> pd.DataFrame:
    """Read a table of users or items, and check that its ids are integers or text, each there once."""
    table = _read_table(path, {})
    ids = table[column] if column in table.column_names else pa.chunked_array([[None]])
    if ids.type not in ID_TYPES or ids.null_count or pc.count_distinct(ids).as_py() < len(ids):
        raise damaged(path, f"has no column {column} of integers or text in which each is there once")
    try:
        read: pd.DataFrame = table.to_pandas()
    except (ValueError, TypeError) as error:  # what pandas wrote beside the columns, of their types
        raise damaged(path, f"can't be read: {error}") from None
    return read
