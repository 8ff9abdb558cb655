"""`run.json`: what a run folder says of itself. Reads no torch, so it can be asked where there is none."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import msgspec

from recsys.data.splits import SplitRecipe
from recsys.errors import CheckpointError
from recsys.training.config import TrainingConfig
from serve.files.checksum import sha256_of

FORMAT_VERSION = 1
RUN_NAME = "run.json"
USERS, ITEMS, INTERACTIONS = "users.parquet", "items.parquet", "interactions.parquet"
WAY_OUT = "Train it again (`recsys train … --overwrite`), or take another copy of the folder."


MatchBy = Literal["id", "title"]


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
    """How one epoch went. The validation errors are ratings, on the held-out part."""

    epoch: int
    """Counted from 1."""
    train_loss: float
    """Mean squared error over the epoch's steps, as the weights were at each."""
    valid_rmse: float
    valid_mae: float
    seconds: float


class StartedFrom(msgspec.Struct, frozen=True, kw_only=True):
    """Where a run began, and how much of it could be taken over."""

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
    started_from: StartedFrom | None = None
    """None: from new weights."""

    @property
    def epochs_done(self) -> int:
        """Number of whole epochs in the folder."""
        return len(self.history)

    @property
    def metrics(self) -> dict[str, float]:
        """`rmse` and `mae` (ratings) on the held-out part, after the last epoch."""
        return {"rmse": self.history[-1].valid_rmse, "mae": self.history[-1].valid_mae}


class _Versioned(msgspec.Struct, frozen=True):
    format_version: int


def is_run(path: Path) -> bool:
    """Whether the folder says that it is a run; it may still be damaged."""
    return (path / RUN_NAME).is_file()


def describe_file(path: Path) -> File:
    """Size (bytes) and SHA-256 of a file.

    Raises:
        OSError: it can't be read.
    """
    return File(bytes=path.stat().st_size, sha256=sha256_of(path))


def read_info(path: Path) -> RunInfo:
    """Read a folder's `run.json`.

    Raises:
        CheckpointError: not a run folder, an unknown format version, a missing or mistyped field.
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
                f"{path / RUN_NAME}: format version {version}; this release knows version {FORMAT_VERSION}. "
                f"Train again, or install the release that wrote it."
            )
        return msgspec.json.decode(raw, type=RunInfo)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise CheckpointError(f"{path / RUN_NAME} is not valid: {error}. {WAY_OUT}") from None
