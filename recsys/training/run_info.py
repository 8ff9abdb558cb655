"""`run.json`: the description of a run folder. Imports no torch, so that it can be read without it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import msgspec

from recsys.data.splits import SplitRecipe
from recsys.errors import CheckpointError
from recsys.models.kind import Objective
from recsys.training.config import TrainingConfig
from serve.files.checksum import sha256_of

FORMAT_VERSION = 2
RUN_NAME = "run.json"
USERS, ITEMS, INTERACTIONS = "users.parquet", "items.parquet", "interactions.parquet"
WAY_OUT = "Train it again (`recsys train … --overwrite`), or take another copy of the folder."

MatchBy = Literal["id", "title"]


class RunFile(msgspec.Struct, frozen=True, kw_only=True):
    """Size and checksum of a file of the run."""

    bytes: int
    sha256: str


class DataInfo(msgspec.Struct, frozen=True, kw_only=True):
    """The data of the run. `ratings_range` is over all ratings, held-out ones too; row 0 is not counted."""

    name: str
    sha256: str
    licence: str
    item_key: str
    n_users: int
    n_items: int
    n_ratings: int
    n_held_out: int
    ratings_range: tuple[float, float]


class Iteration(msgspec.Struct, frozen=True, kw_only=True):
    """One epoch of training by gradient, or one iteration of a fit."""

    number: int
    """Counted from 1."""
    metrics: dict[str, float]
    """By name. `train_loss` is the mean squared error over the epoch's steps, with the weights of each step.
    What is measured on the held-out ratings starts with `valid_`: `valid_rmse`, `valid_mae` (ratings)."""
    seconds: float


class PartInfo(msgspec.Struct, frozen=True, kw_only=True):
    """One model of the run."""

    kind: str
    config: dict[str, Any]
    objective: Objective
    weight: float
    """Of its scores in a list that several parts rank."""
    training: TrainingConfig | None
    """None: a kind that is fitted, not trained by gradient."""
    history: list[Iteration] = []
    """Empty: not trained yet."""
    weights: str = ""
    """Name of the file with the model's state after the last iteration of `history`."""
    optimizer: str | None = None
    """Name of the file with the optimizer's state; None: a kind that is fitted."""

    @property
    def iterations_done(self) -> int:
        """Number of whole epochs or iterations in the folder."""
        return len(self.history)

    @property
    def metrics(self) -> dict[str, float]:
        """Metrics on the held-out ratings after the last iteration: `rmse` and `mae` of predicted ratings."""
        return {
            name.removeprefix("valid_"): value
            for name, value in self.history[-1].metrics.items()
            if name.startswith("valid_")
        }


class StartedFrom(msgspec.Struct, frozen=True, kw_only=True):
    """The model that a run was started from, and how many of its items it has."""

    source: str
    match_by: MatchBy
    n_matched: int
    """Items that both have."""
    n_new: int
    """Items of the new data that start as the average item."""
    n_left: int
    """Items of the source that the new data does not have."""


class RunInfo(msgspec.Struct, frozen=True, kw_only=True):
    """The whole of `run.json`."""

    format_version: int
    data: DataInfo
    split: SplitRecipe
    seed: int
    """Of new weights, the order of the ratings, dropout and samplers."""
    device: str
    parts: list[PartInfo]
    """At most one of them predicts ratings."""
    files: dict[str, RunFile]
    versions: dict[str, str]
    started_from: StartedFrom | None = None
    """None: from new weights."""

    @property
    def main(self) -> int:
        """Position of the part that predicts ratings, or of the first part where none does."""
        objectives = [part.objective for part in self.parts]
        return objectives.index("ratings") if "ratings" in objectives else 0

    @property
    def part(self) -> PartInfo:
        """The main part."""
        return self.parts[self.main]

    @property
    def metrics(self) -> dict[str, float]:
        """Metrics of the main part on the held-out ratings."""
        return self.part.metrics


class _Versioned(msgspec.Struct, frozen=True):
    format_version: int


def is_run(path: Path) -> bool:
    """Whether the folder has a `run.json`; the run may still be damaged."""
    return (path / RUN_NAME).is_file()


def describe_file(path: Path) -> RunFile:
    """Size (bytes) and SHA-256 of a file.

    Raises:
        OSError: it can't be read.
    """
    return RunFile(bytes=path.stat().st_size, sha256=sha256_of(path))


def read_info(path: Path) -> RunInfo:
    """Read a folder's `run.json`.

    Raises:
        CheckpointError: not a run folder, another format version, a missing or mistyped field.
    """
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
                f"{path / RUN_NAME}: format version {version}; this release reads version {FORMAT_VERSION}. "
                f"Train again, or install the release that wrote it."
            )
        info = msgspec.json.decode(raw, type=RunInfo)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise CheckpointError(f"{path / RUN_NAME} is not valid: {error}. {WAY_OUT}") from None
    if sum(part.objective == "ratings" for part in info.parts) > 1:
        raise CheckpointError(f"{path / RUN_NAME} names two parts that predict ratings. {WAY_OUT}")
    if not any(part.history for part in info.parts):
        raise CheckpointError(f"{path / RUN_NAME} holds no whole epoch. {WAY_OUT}")
    return info
