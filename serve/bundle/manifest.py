"""`manifest.json`: the description of a bundle, as frozen structs. docs/bundle.md explains the format.

msgspec rather than pydantic: it validates as strictly, and imports in no measurable time, where pydantic
would take half of the time that the first answer may take (benchmarks/bench_startup.py).
Unknown fields are ignored, so that a later minor addition does not break an older reader; what would
mislead an older reader changes `FORMAT_VERSION`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import msgspec

from serve.bundle.changes import Addition, Forgotten
from serve.bundle.explain import Explain
from serve.bundle.item_rules import ItemRules
from serve.bundle.packing import Compression, Packing
from serve.errors import BundleError, NotABundleError
from serve.files.names import MANIFEST_NAME, RUN_NAME
from serve.files.plain_file import read_plain

FORMAT_VERSION = 1
# Hundreds of times what a manifest has; it is read whole, before anything else has been checked.
MAX_MANIFEST_BYTES = 8 << 20
METRICS = {
    "RMSE": "rmse",
    "MAE": "mae",
    "nDCG@{k}": "ndcg_at_k",
    "recall@{k}": "recall_at_k",
    "precision@{k}": "precision_at_k",
    "MRR@{k}": "mrr_at_k",
    "hit rate@{k}": "hit_rate_at_k",
    "coverage@{k}": "coverage_at_k",
    "popularity@{k}": "popularity_at_k",
}
"""Title of each metric in a table -> its key in `Manifest.metrics`."""


class File(msgspec.Struct, frozen=True, kw_only=True):
    """A file of the bundle."""

    bytes: int
    sha256: str


class Tensor(msgspec.Struct, frozen=True, kw_only=True):
    """An input or output of a graph; a `str` dimension is symbolic."""

    name: str
    dtype: str
    shape: list[int | str]


class Graph(msgspec.Struct, frozen=True, kw_only=True):
    """A graph of the bundle: its file, its tensors, and how exact it is."""

    file: str
    inputs: list[Tensor]
    outputs: list[Tensor]
    tolerance: dict[str, float]
    """Float output -> largest absolute difference from a float64 reference."""
    precision: str
    """Of the tables with a row for each user or item: "float32" or less. The arithmetic is float32."""
    items: tuple[int, int]
    """The item indices that its answers cover: the first, and one past the last."""
    top_k: int | None = None
    """Length of its lists, baked in; None where it does not rank."""


class Table(msgspec.Struct, frozen=True, kw_only=True):
    """An initializer that is a table of the model, of any dtype, and the graphs that hold it."""

    name: str
    dtype: str
    shape: list[int]
    bytes: int
    graphs: list[str]
    packing: Packing | None = None
    """None: the numbers are those of the model. Else `serve.bundle.packing` says what they stand for."""


class FittedPart(msgspec.Struct, frozen=True, kw_only=True):
    """One fitted model of the run."""

    kind: str
    config: dict[str, Any]
    objective: Literal["ratings", "ranking"]
    weight: float
    """Of its scores in the lists, in standard deviations of a user's scores; 0: it does not order them."""


class RankingPart(msgspec.Struct, frozen=True, kw_only=True):
    """The columns of a part in the tables that rank, `ranking_user_factors` and `ranking_item_factors`."""

    kind: str
    width: int
    factor: float
    """What its users' rows are multiplied by there."""
    predicts_ratings: bool
    confidence: tuple[float, float] | None
    """Of iALS: mean rating, and increase of the weight of a rated item per unit of rating."""


class RankingTables(msgspec.Struct, frozen=True, kw_only=True):
    """The tables that rank: the parts side by side, and a last column of popularity, for new users."""

    parts: list[RankingPart]
    popularity: tuple[float, float]
    """m and s of the last column, s (log(1 + training ratings of the item) - m)."""


class Model(msgspec.Struct, frozen=True, kw_only=True):
    """The trained model. `n_users` and `n_items` don't count row 0."""

    kind: str
    config: dict[str, Any]
    n_users: int
    n_items: int
    n_factors: int
    scores: Literal["ratings", "ranking"]
    """What a score is: a predicted rating, or a number that orders items and means nothing else."""
    score_scale: tuple[float, float] | None
    """The scale of scores that are ratings; None where they are not."""
    score_span: float
    """Width of the scores: differences of two scores are relative to it."""
    score_range: tuple[float, float] | None
    """The lowest and highest score that the model can give; None where it is unbounded."""
    lists: Literal["ratings", "ranking"]
    """What orders the lists: the scores, or scores of their own, which mean nothing else."""
    list_span: float
    """Width of the scores of a list."""
    parts: list[FittedPart]
    ranking: RankingTables | None = None
    """None: the scores order the lists, or an MLP does."""

    @property
    def title(self) -> str:
        """The kinds of the parts, as in "bayes + ease"."""
        return " + ".join(part.kind for part in self.parts) or self.kind


class Data(msgspec.Struct, frozen=True, kw_only=True):
    """The data of the training. `ratings_range` is the lowest and the highest rating in it."""

    name: str
    sha256: str
    n_ratings: int
    ratings_range: tuple[float, float]
    item_key: str
    licence: str
    implicit: bool = False
    """Whether it has no ratings to predict, only what users chose: likes, purchases, plays."""
    user_features: list[str] = []
    """What it knows of users, for kinds of model that use it."""
    item_features: list[str] = []
    """Likewise of items."""


class Training(msgspec.Struct, frozen=True, kw_only=True):
    """Settings of the training as the run has them, and one entry for each epoch or reported iteration."""

    settings: dict[str, Any]
    seed: int
    history: list[dict[str, int | float]]


class FoldIn(msgspec.Struct, frozen=True, kw_only=True):
    """How a new user's ratings are predicted, as chosen at export."""

    method: Literal["ridge", "linear map"] = "ridge"
    """"ridge": the closed form, solved in the graph. "linear map": an approximation, where there is none."""
    prior_ratings: float = 0.0
    """Of a linear map: ratings that the average user counts for."""
    regularization: float
    """Weight of a squared difference from the average user, in units that docs/bundle.md states."""
    steps: int
    """Of conjugate gradients, in the graph."""
    n_items: int
    """The first items, whose factors the preconditioner is made from."""
    held_out_rmse: float | None
    n_held_out_users: int


class ListRidge(msgspec.Struct, frozen=True, kw_only=True):
    """The ridge that stands in for the closed form of a product that gradient descent trained to rank."""

    unobserved_weight: float
    """Of the square of any item's score."""
    regularization: float
    """Of the row, relative to the mean squared length of the items' rows."""
    scale: float
    """The row is multiplied by it."""
    average_share: float
    """So many times the average user's row are added."""
    held_out_ndcg: float | None
    """nDCG@10 of held-out users by this part alone; None where nothing was held out."""
    average_ndcg: float | None
    """The same of the average user."""


class ListFoldIn(msgspec.Struct, frozen=True, kw_only=True):
    """How `fold_in.onnx` ranks for a new user, where parts that rank order the lists."""

    methods: dict[str, str]
    """Kind of each part -> "ridge", "ridge (approximation)", "sum of input rows", or "average user" where it
    has no closed form, or one that is no better."""
    steps: int
    """Of conjugate gradients, in the graph."""
    n_items: int
    """The first items, whose factors the preconditioner is made from."""
    prior_ratings: float
    """The ratings that the average user's row and the popularity of items count for."""
    popularity: float
    """Weight of the popularity beside the average user's row."""
    held_out_ndcg: dict[str, float]
    """nDCG@10 of held-out users, who have chosen the settings, by the number of ratings that they gave
    ("all": what they have), and of the most popular items ("popularity"). Empty: nothing was held out."""
    n_held_out_users: int
    ridges: dict[str, ListRidge] = {}
    """Kind of each part with an approximation -> its settings."""


class SimilarItems(msgspec.Struct, frozen=True, kw_only=True):
    """Similar items are ranked by cosine times n / (n + shrinkage), n the neighbour's training ratings."""

    shrinkage: float
    min_ratings: int
    """The cosine to an item with fewer ratings counts as 0."""
    held_out_cosine: float | None
    """Cosine of the ratings of an item, those in training, and of its ten nearest, those held out: the mean.
    None: nothing was held out, and the shrinkage is the default."""


class PopularityBand(msgspec.Struct, frozen=True, kw_only=True):
    """Held-out ratings of items that were rated about as often in training."""

    lowest: int
    """Training ratings of such an item, at least."""
    highest: int | None
    """At most; None in the last band."""
    n: int
    rmse: float
    mae: float


class HeldOut(msgspec.Struct, frozen=True, kw_only=True):
    """Ratings held out of the training against their predictions (torch's)."""

    n: int
    ratings: list[float]
    """The ratings that occur, ascending; where there are many, the middles of bars of equal width."""
    n_observed: list[int]
    """How many ratings are nearest to each of `ratings`."""
    n_predicted: list[int]
    """How many predictions are nearest to each of `ratings`."""
    by_popularity: list[PopularityBand]


class Check(msgspec.Struct, frozen=True, kw_only=True):
    """One graph on one provider against torch: errors in scores, lists as fractions."""

    graph: str
    provider: str
    n: int
    max_error: float
    mean_error: float
    tolerance: float
    passed: bool
    list_agreement: float | None = None
    rmse_torch: float | None = None
    rmse_onnx: float | None = None


class Parity(msgspec.Struct, frozen=True, kw_only=True):
    """The report of `recsys verify` at export."""

    passed: bool
    checks: list[Check]
    compression: Compression | None = None
    """None: the tables are float32."""


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """The whole of `manifest.json`."""

    format_version: int
    opset: int
    ir_version: int
    model: Model
    data: Data
    split: dict[str, Any]
    training: Training
    metrics: dict[str, Any]
    parity: Parity
    graphs: dict[str, Graph]
    tables: list[Table]
    files: dict[str, File]
    versions: dict[str, str]
    fold_in: FoldIn | None = None
    list_fold_in: ListFoldIn | None = None
    similar_items: SimilarItems | None = None
    explain: Explain | None = None
    """None: there is no graph `explain`."""
    item_rules: ItemRules | None = None
    """None: there are no graphs with rules."""
    left_out: dict[str, str] = {}
    """Graph that could not be made -> why."""
    held_out: HeldOut | None = None
    additions: list[Addition] = []
    """In order: each one extends the bundle of the one before it. The other fields are the training's."""
    forgotten: list[Forgotten] = []
    """In order, likewise. Their ids are null in `users.parquet`."""
    without_seen: bool = False
    """Whether it was exported without `seen.parquet`, and without ratings of users anywhere else."""

    @property
    def n_forgotten(self) -> int:
        """The users without an id."""
        return sum(one.n_users for one in self.forgotten)


class _Versioned(msgspec.Struct, frozen=True, kw_only=True):
    format_version: int


def read_manifest(bundle: Path) -> Manifest:
    """Read and validate `bundle/manifest.json`. Raises BundleError: as `read_raw` and `parse_manifest`."""
    return parse_manifest(read_raw(bundle), bundle)


def read_raw(bundle: Path) -> bytes:
    """The bytes of `bundle/manifest.json`. Raises BundleError: it is missing, or too large to be one."""
    path = bundle / MANIFEST_NAME
    try:
        raw = read_plain(path, MAX_MANIFEST_BYTES + 1)
    except (FileNotFoundError, NotADirectoryError):
        what = "has no manifest.json" if bundle.is_dir() else "is not a folder"
        if (bundle / RUN_NAME).is_file():
            what = "is a run"
        raise NotABundleError(f"{bundle} {what}: it is not a bundle. `recsys export` makes one.") from None
    except OSError as error:
        raise BundleError(f"{path} can't be read: {error.strerror}") from None
    if len(raw) > MAX_MANIFEST_BYTES:
        raise BundleError(f"{path} has more than {MAX_MANIFEST_BYTES} bytes: it is not a manifest.")
    return raw


def parse_manifest(raw: bytes, bundle: Path) -> Manifest:
    """Validate the bytes of a manifest; `bundle` is named in the errors.

    Raises:
        BundleError: not JSON, an unknown format version, a missing or mistyped field.
    """
    path = bundle / MANIFEST_NAME
    try:
        # The version first: a newer format may have changed everything else.
        version = msgspec.json.decode(raw, type=_Versioned).format_version
        if version != FORMAT_VERSION:
            raise BundleError(
                f"{path}: format version {version}; this reader knows version {FORMAT_VERSION}. "
                f"Export the bundle again, or install the release that wrote it."
            )
        return msgspec.json.decode(raw, type=Manifest)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BundleError(f"{path} is not a valid manifest: {error}") from None


def encode_manifest(manifest: Manifest) -> bytes:
    """The bytes of `manifest.json`: indented, keys in a fixed order, a newline at the end."""
    return msgspec.json.format(msgspec.json.encode(manifest, order="deterministic"), indent=2) + b"\n"
