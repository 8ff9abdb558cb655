"""`run.json`, the description of a run folder. Imports no torch, so that the command's help stays quick."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

import msgspec

from recsys.data.splits import SplitRecipe
from recsys.errors import CheckpointError, ConfigError, NotARunError
from recsys.models.kind import Objective
from serve.files.checksum import sha256_of
from serve.files.names import MANIFEST_NAME
from serve.files.names import RUN_NAME as RUN_NAME
from serve.files.plain_file import read_plain

if TYPE_CHECKING:
    from recsys.data.interactions import Interactions

FORMAT_VERSION = 3
# It is read whole. An epoch takes some hundred bytes.
MAX_RUN_BYTES = 64 << 20
# The last field, and what stands there when the checksum is made.
CHECKSUM = b'"checksum": "'
UNSIGNED = b"0" * 64
USERS, ITEMS, INTERACTIONS = "users.parquet", "items.parquet", "interactions.parquet"

MatchBy = Literal["id", "title"]
Precision = Literal["float32", "tf32", "bf16"]
SparseUpdates = Literal["auto", "on", "off"]


class RunFile(msgspec.Struct, frozen=True, kw_only=True):
    """Size and checksum of a file of the run."""

    bytes: int
    sha256: str


class DataInfo(msgspec.Struct, frozen=True, kw_only=True):
    """The data of the run; counts leave out row 0."""

    name: str
    sha256: str
    licence: str
    item_key: str
    n_users: int
    n_items: int
    n_ratings: int
    n_held_out: int
    ratings_range: tuple[float, float]
    """Over all ratings, held-out ones too; (1, 1) without ratings."""
    implicit: bool = False
    """Whether the data has no ratings to predict, only what users chose: likes, purchases, plays."""
    user_features: list[str] = []
    """What the data knows of users, for kinds that use it: names of columns of `users.parquet`."""
    item_features: list[str] = []
    """Likewise of items."""

    @classmethod
    def of(
        cls, data: Interactions, n_held_out: int, ratings_range: tuple[float, float], *, implicit: bool
    ) -> Self:
        """Describe the data of a run; arguments as the fields."""
        from recsys.data.features import feature_names  # pandas is slow to load

        return cls(
            name=data.name,
            sha256=data.sha256,
            licence=data.licence,
            item_key=data.item_key,
            n_users=data.n_users,
            n_items=data.n_items,
            n_ratings=len(data),
            n_held_out=n_held_out,
            ratings_range=ratings_range,
            implicit=implicit,
            user_features=feature_names(data.users),
            item_features=feature_names(data.items),
        )


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """How the gradient loop trains a part of a run."""

    weight_decay: float
    """Decoupled: each step shrinks every weight, except the biases of layers, by learning rate x this. The
    default is `Kind.weight_decay`."""
    epochs: int = 5
    batch_size: int = 256
    """Ratings per step."""
    learning_rate: float = 5e-3
    """Peak of the one-cycle schedule."""
    precision: Precision = "float32"
    """bf16: the layers of a network run in bfloat16 (autocast); tables and sums stay in float32."""
    sparse_updates: SparseUpdates = "auto"
    """on: a step changes only the rows that it uses, and a row makes up for missed steps when next used.
    auto: where that is the quicker way."""

    def __post_init__(self) -> None:
        for name, value in (("epochs", self.epochs), ("batch size", self.batch_size)):
            if value < 1:
                raise ConfigError(f"{name} is {value}: at least 1 is needed")
        if not (math.isfinite(self.learning_rate) and self.learning_rate > 0):
            raise ConfigError(f"learning rate is {self.learning_rate}: it must be a number above 0")
        if not (math.isfinite(self.weight_decay) and self.weight_decay >= 0):
            raise ConfigError(f"weight decay is {self.weight_decay}: it must be a number from 0 on")


class Iteration(msgspec.Struct, frozen=True, kw_only=True):
    """One epoch of training by gradient, or one iteration of a fit."""

    number: int
    """From 1; a fit may report a few of its iterations only."""
    metrics: dict[str, float]
    """By name. Means over the epoch's steps, with the weights of each step: `train_loss` (squared error), or
    `train_softmax_loss` (nats) of a part that ranks. Metrics on the held-out ratings start with `valid_`:
    `valid_rmse`, `valid_mae` (ratings); `valid_ndcg_at_10` of a part that learns to rank."""
    seconds: float


class PartInfo(msgspec.Struct, frozen=True, kw_only=True):
    """One model of the run."""

    kind: str
    config: dict[str, Any]
    objective: Objective
    weight: float
    """Weight of its scores when several parts rank a list together."""
    training: TrainingConfig | None
    """None: a kind that is fitted, not trained by gradient."""
    rating_unit: Annotated[float, msgspec.Meta(gt=0)] = 1.0
    """The weights are those of ratings divided by it; `config` is in ratings."""
    history: list[Iteration] = []
    """Empty: not trained yet."""
    weights: str = ""
    """Name of the file with the model's state after the last iteration of `history`."""
    optimizer: str | None = None
    """Name of the file with the optimizer's state; None: a kind that is fitted."""

    @property
    def iterations_done(self) -> int:
        """Epochs or iterations in the folder."""
        return len(self.history)

    @property
    def metrics(self) -> dict[str, float]:
        """Metrics on the held-out ratings after the last iteration, such as `rmse` and `mae` (ratings)."""
        return {
            name.removeprefix("valid_"): value
            for name, value in self.history[-1].metrics.items()
            if name.startswith("valid_")
        }


class StartedFrom(msgspec.Struct, frozen=True, kw_only=True):
    """The pretrained model that a run started from."""

    source: str
    match_by: MatchBy
    n_matched: int
    """Items of both."""
    n_new: int
    """Items of the new data alone, which start as the average item."""
    n_left: int
    """Items of the source alone."""


class RunInfo(msgspec.Struct, frozen=True, kw_only=True):
    """The contents of `run.json`."""

    format_version: int
    data: DataInfo
    split: SplitRecipe
    seed: int
    """Random seed of new weights, the order of the ratings, dropout and samplers."""
    device: str
    parts: list[PartInfo]
    """At most one of them predicts ratings."""
    files: dict[str, RunFile]
    versions: dict[str, str]
    started_from: StartedFrom | None = None
    """None: from new weights."""
    rating_weight: float = 0.0
    """Weight of the ratings part's scores in the lists, beside parts that rank."""
    checksum: str = UNSIGNED.decode()
    """SHA-256 of the bytes of `run.json`, with 64 zeros in this place."""

    @property
    def main(self) -> int:
        """Position of the part that predicts ratings, or else 0."""
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

    def with_part(self, number: int, **changes: Any) -> RunInfo:
        """Copy with changes to one part."""
        parts = [*self.parts]
        parts[number] = msgspec.structs.replace(parts[number], **changes)
        return msgspec.structs.replace(self, parts=parts)


def is_run(path: Path) -> bool:
    """Whether the folder has a `run.json`; the run may be damaged."""
    return (path / RUN_NAME).is_file()


def describe_file(path: Path) -> RunFile:
    """Size (bytes) and SHA-256 of a file.

    Raises:
        OSError: it can't be read.
    """
    return RunFile(bytes=path.stat().st_size, sha256=sha256_of(path))


def signed(raw: bytes) -> bytes:
    """The bytes of a `run.json`, which ends with any checksum, with the right one."""
    head, name, tail = raw.rpartition(CHECKSUM)
    unsigned = head + name + UNSIGNED + tail[len(UNSIGNED) :]
    digest = hashlib.sha256(unsigned).hexdigest().encode()
    return head + name + digest + tail[len(UNSIGNED) :]


def encoded(info: RunInfo) -> bytes:
    """The bytes of `run.json`."""
    return signed(msgspec.json.format(msgspec.json.encode(info), indent=2) + b"\n")


def damaged(path: Path, what: str) -> CheckpointError:
    """The error for a damaged file of a run, or a damaged run folder."""
    return CheckpointError(
        f"{path} {what}. Train it again (`recsys train … --overwrite`), or take another copy of the folder."
    )


def read_info(path: Path) -> RunInfo:
    """Read a folder's `run.json`.

    Raises:
        NotARunError: not a run folder.
        CheckpointError: another format version, a missing or mistyped field.
    """
    try:
        raw = read_plain(path / RUN_NAME, MAX_RUN_BYTES)
    except OSError as error:
        if isinstance(error, (FileNotFoundError, NotADirectoryError)):
            what = "has no run.json" if path.is_dir() else "is not a folder"
            if (path / MANIFEST_NAME).is_file():
                what = "is a bundle"
            raise NotARunError(f"{path} {what}: it is not a run. `recsys train` makes runs.") from None
        raise CheckpointError(f"{path / RUN_NAME} can't be read: {error.strerror}") from None
    try:
        fields = msgspec.json.decode(raw, type=dict[str, Any])
        if (version := fields.get("format_version")) != FORMAT_VERSION:
            raise CheckpointError(
                f"{path / RUN_NAME}: format version {version}; this release reads version {FORMAT_VERSION}. "
                f"Train again, or install the release that wrote it."
            )
        info = msgspec.convert(fields, RunInfo)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise damaged(path / RUN_NAME, f"is not valid: {error}") from None
    if signed(raw) != raw:
        raise damaged(path / RUN_NAME, "was changed after it was written: its checksum is another one")
    if sum(part.objective == "ratings" for part in info.parts) > 1:
        raise damaged(path / RUN_NAME, "has two parts that predict ratings")
    if not any(part.history for part in info.parts):
        raise damaged(path / RUN_NAME, "has no whole epoch")
    return info
