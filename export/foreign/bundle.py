"""From the tables of any trainer to a bundle: the same graphs, checks and files as from a run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch

from export.errors import ParityError, TableError
from export.foreign import tables
from export.model.dot import DotArrays
from export.model.inputs import ExportInputs, Sample
from export.model.side_by_side import PartColumns, SideBySide
from export.verify.verify import describe_failures
from export.write.bundle import TOP_K, make_manifest, write_data
from export.write.finish import finish
from export.write.graph_files import TablesFile, write_graphs
from export.write.run_inputs import N_PAIRS, LoadedRun, module_arrays
from recsys.data.interactions import Interactions
from recsys.data.splits import SplitRecipe
from recsys.models import DotBiasConfig, DotConfig, Objective
from recsys.models.modules import DotProduct
from recsys.models.side_by_side import score_spread, side_by_side
from recsys.training.checkpoint import Run
from recsys.training.run_info import FORMAT_VERSION, DataInfo, PartInfo, RunInfo
from serve.bundle.bundle import Bundle, open_bundle
from serve.bundle.manifest import Check, Parity, SimilarItems
from serve.files.atomic import new_folder

OwnCheck = Callable[[Path, ExportInputs], Check]
"""Compares the graphs in a folder with the model that the tables are of."""

NO_FOLD_IN = "a fold-in of a model that ranks is chosen by what users have seen, and `seen` was not given"


def bundle_arrays(
    *,
    user_factors: Any,
    item_factors: Any,
    output: str | Path,
    scores: Literal["ratings", "ranking"],
    user_biases: Any = None,
    item_biases: Any = None,
    user_ids: Any = None,
    item_ids: Any = None,
    items: Any = None,
    seen: Any = None,
    score_range: tuple[float, float] | None = None,
    rating_scale: tuple[float, float] | None = None,
    name: str = "own model",
    licence: str = "unknown",
    top_k: int = TOP_K,
    tables_file: TablesFile = "auto",
    raw_ids: bool = False,
    fast: bool = False,
    filtered: bool = False,
    explain: bool = False,
    variety: bool = False,
    overwrite: bool = False,
    checks: Sequence[OwnCheck] = (),
) -> Bundle:
    """Write a bundle of a product of tables, verified before it gets its name.

    The score of a pair is user_factors . item_factors + user_bias + item_bias, through the range of a sigmoid
    if there is one. Row 0, the average, is added to every table. Arrays of numpy, or tensors.

    Args:
        user_factors: [n_users, F].
        item_factors: [n_items, F].
        output: The bundle's folder, a new one.
        scores: What a score is: a predicted rating, or a number that orders items and means nothing else.
        user_biases: [n_users]; None: none. A global mean belongs to the items' biases.
        item_biases: [n_items]; None: none.
        user_ids: int or str [n_users], in the order of the rows; None: 0 to n_users - 1.
        item_ids: [n_items], likewise.
        items: Table of pandas, polars or Arrow with item ids, titles, genres, years, and numbers for rules.
        seen: What users have seen or rated: such a table with user and item ids, and ratings and times if
            there are any; or a sparse matrix of scipy [n_users, n_items]. It is excluded from lists, chooses
            the fold-in, and gives the profiles.
        score_range: Range of a sigmoid on the scores (fastai's y_range); None: scores are the products.
        rating_scale: Lowest and highest rating; None: those in `seen`.
        name: Of the data, in the manifest.
        licence: Of the data.
        top_k: Longest list that the graphs give.
        tables_file: See `export_run`.
        raw_ids: See `export_run`.
        fast: See `export_run`.
        filtered: See `export_run`. Columns of numbers in `items` are numbers of the rules.
        explain: See `export_run`.
        variety: See `export_run`.
        overwrite: Replace a bundle that is there.
        checks: Further checks of the graphs, which are part of the parity report.

    Raises:
        TableError: shapes, values or ids that are wrong, or no scale of the ratings.
        DataError: `items` or `seen` can't be read.
        GraphError, ParityError, OutputError: as `export_run`.
    """
    if scores not in get_args(Objective):
        raise TableError(f"scores must be 'ratings' or 'ranking', got {scores!r}")
    module = _module(user_factors, item_factors, user_biases, item_biases, score_range)
    if scores == "ranking" and module.y_range is not None:
        raise TableError("a score_range is for scores that are ratings: leave it out, or scores='ratings'")
    n_users, n_items = len(module.user_factors) - 1, len(module.item_factors) - 1
    users = tables.ids("user_ids", user_ids, n_users)
    known = tables.described(tables.ids("item_ids", item_ids, n_items), items)
    data = tables.interactions(users, known, seen, name=name, licence=licence)
    loaded = _loaded(module, data, scores, _scale(data, scores, rating_scale))
    with new_folder(Path(output), overwrite=overwrite) as folder:
        inputs = loaded.inputs(
            top_k, raw_ids=raw_ids, fast=fast, filtered=filtered, explain=explain, variety=variety
        )
        inputs = inputs if len(data) else _without_ratings(inputs, data)
        write_data(folder, loaded, inputs)
        made = write_graphs(folder, inputs, tables_file, lambda step: None)
        own = [check(folder, inputs) for check in checks]
        parity = Parity(passed=all(one.passed for one in own), checks=[*made["parity"].checks, *own])
        if not parity.passed:
            raise ParityError(f"no bundle was written: {describe_failures(parity)}")
        manifest = make_manifest(loaded, inputs, made | {"parity": parity}, {"n_held_out": 0})
        finish(folder, manifest)
    return open_bundle(output)


def _module(
    user_factors: Any, item_factors: Any, user_biases: Any, item_biases: Any, score_range: Any
) -> DotProduct:
    """The tables as a torch module, with row 0."""
    users = tables.factors("user_factors", user_factors)
    items = tables.factors("item_factors", item_factors)
    if users.shape[1] != items.shape[1]:
        raise TableError(
            f"user_factors have {users.shape[1]} columns, item_factors {items.shape[1]}: they must be as many"
        )
    of_users = None if user_biases is None else tables.biases("user_biases", user_biases, len(users))
    of_items = None if item_biases is None else tables.biases("item_biases", item_biases, len(items))
    # The kinds have biases on both sides or none.
    if of_users is not None or of_items is not None:
        of_users = np.zeros(len(users), np.float32) if of_users is None else of_users
        of_items = np.zeros(len(items), np.float32) if of_items is None else of_items
    given = [None if one is None else torch.from_numpy(one) for one in (users, items, of_users, of_items)]
    assert given[0] is not None
    assert given[1] is not None
    y_range = None if score_range is None else tables.span(score_range, "score_range")
    return DotProduct.from_factors(given[0], given[1], given[2], given[3], y_range).eval()


def _scale(data: Interactions, scores: Objective, given: Any) -> tuple[float, float]:
    """The lowest and the highest rating."""
    low, high = (float(data.ratings.min()), float(data.ratings.max())) if len(data) else (1.0, 1.0)
    if given is None:
        if scores == "ratings" and data.implicit:
            raise TableError("nothing says on which scale the ratings are: give rating_scale=(LOW, HIGH)")
        return low, high
    scale = tables.span(given, "rating_scale")
    if len(data) and not data.implicit and not scale[0] <= low <= high <= scale[1]:
        raise TableError(f"seen has ratings from {low:g} to {high:g}, outside of the rating_scale {scale}")
    return scale


def _loaded(
    module: DotProduct, data: Interactions, scores: Objective, scale: tuple[float, float]
) -> LoadedRun:
    """A run that was never written: kind `dot` or `dot-bias`, nothing held out."""
    config = DotConfig if module.user_biases is None else DotBiasConfig
    n_factors = module.user_factors.shape[1]
    part = PartInfo(
        kind="dot" if config is DotConfig else "dot-bias",
        config=asdict(config(n_factors=n_factors, y_range=module.y_range)),
        objective=scores,
        weight=1.0,
        training=None,
    )
    info = RunInfo(
        format_version=FORMAT_VERSION,
        data=DataInfo.of(data, 0, scale, implicit=scores == "ranking" and data.implicit),
        split=SplitRecipe(kind="random", valid_fraction=0.0),
        seed=SplitRecipe.seed,
        device="cpu",
        parts=[part],
        files={},
        versions={},
    )
    y_range = module.y_range
    assert y_range != "auto"
    arrays = module_arrays(module, y_range)
    held_out = np.zeros(len(data), bool)
    run = Run(Path(), info)
    if scores == "ratings":
        return LoadedRun(run, module, arrays, None, None, data, held_out)
    ranking_module = side_by_side([module], [1.0])
    assert isinstance(ranking_module, DotProduct)
    dot = module_arrays(ranking_module, None)
    assert isinstance(dot, DotArrays)
    columns = PartColumns(part.kind, 1.0, n_factors, None)
    n_item_ratings = np.bincount(data.item_index, minlength=data.n_items + 1)
    ranking = SideBySide.of(dot, [columns], n_item_ratings, score_spread(ranking_module))
    return LoadedRun(run, module, arrays, ranking_module, ranking, data, held_out)


def _without_ratings(inputs: ExportInputs, data: Interactions) -> ExportInputs:
    """Nothing says how often an item was rated, so every cosine counts; and pairs to verify are drawn."""
    rng = np.random.default_rng(1)
    pairs = rng.integers(1, data.n_users + 1, N_PAIRS), rng.integers(1, data.n_items + 1, N_PAIRS)
    some = inputs.sample
    left_out = dict(inputs.left_out) | ({"fold_in": NO_FOLD_IN} if "fold_in" in inputs.left_out else {})
    return replace(
        inputs,
        sample=Sample.of(inputs.seen, some.users[1:], some.items[1:], pairs, None, some.histories),
        similar=SimilarItems(shrinkage=0.0, min_ratings=0, held_out_cosine=None),
        item_support=np.ones(data.n_items + 1, np.float32),
        left_out=left_out,
    )
