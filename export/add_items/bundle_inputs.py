"""What graphs are made from where a bundle comes from another bundle: tables changed, settings kept."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pandas as pd
from torch import nn

from export.errors import GraphError
from export.graphs.fold_in import ridge_arrays
from export.model.arrays import Arrays, Float32, Float64, Int64
from export.model.inputs import ExportInputs, IdTables, Sample, SeenRatings
from export.model.item_columns import ItemColumns, categories_and_membership
from export.model.side_by_side import SideBySide
from export.write.explain_choice import with_explain
from export.write.fold_in_choice import with_enough_steps
from export.write.list_fold_in_choice import with_enough_list_steps
from recsys.data.features import numeric_features
from serve.bundle.bundle import Bundle
from serve.bundle.ids import IdIndex
from serve.bundle.item_rules import N_RATINGS, UNKNOWN_NUMBER, YEAR, number_table
from serve.bundle.items import Catalogue
from serve.bundle.shards import list_graphs, shards_of


class Fitted(NamedTuple):
    """The model."""

    module: nn.Module
    """Of the scores, in eval mode"""
    arrays: Arrays
    """The same"""
    ranking_module: nn.Module | None
    """What orders the lists; None: the scores do"""
    ranking: SideBySide | None
    """The same"""


class ItemCounts(NamedTuple):
    """What the graphs hold of the numbers of ratings, and of other numbers."""

    support: Float32
    """See `ExportInputs.item_support`"""
    n_ratings: Int64 | None
    """int64 [n_items + 1], for rules; None: there are no graphs with rules"""
    numbers: dict[str, Float64]
    """Further ones for rules, as `rule_numbers` gives them"""


def rule_numbers(bundle: Bundle, new_items: pd.DataFrame | None = None) -> dict[str, Float64]:
    """The numbers of a bundle's rules beside ratings and years, those of new items after those of the old.

    Float64 [n_items + n_new] by name, NaN where an item has none.
    """
    rules = bundle.manifest.item_rules
    new_items = pd.DataFrame() if new_items is None else new_items
    new, found = numeric_features(new_items), {}
    for name in [] if rules is None else rules.numbers:
        if name in (N_RATINGS, YEAR):
            continue
        old = bundle.table(number_table(name))[0, 1:]
        old = np.where(old == np.float32(UNKNOWN_NUMBER), np.nan, old.astype(np.float64))
        found[name] = np.append(old, new.get(name, np.full(len(new_items), np.nan)))
    return found


def bundle_inputs(
    bundle: Bundle,
    fitted: Fitted,
    seen: SeenRatings,
    sample: Sample,
    counts: ItemCounts,
    users: IdIndex,
    items: Catalogue,
) -> ExportInputs:
    """Inputs with the settings of `bundle`, its ridges with more steps where the new tables need them.

    `users` and `items` are those of the new bundle.
    """
    manifest = bundle.manifest
    fold_in, left_out = manifest.fold_in, dict(manifest.left_out)
    if fold_in is not None and fold_in.method == "ridge":
        try:
            fold_in = with_enough_steps(ridge_arrays(fitted.arrays), sample.histories, fold_in)
        except GraphError as error:
            fold_in, left_out["fold_in"] = None, str(error)
    known = users.known_rows if len(users.known_rows) < len(users) else None
    ids = None
    if "recommend_by_id" in manifest.graphs:
        titles = [title or "" for title in items.titles] if items.has_titles else None
        item_ids = items.ids.ids(np.arange(1, 1 + len(items.ids)))
        ids = IdTables(users.ids(users.known_rows), item_ids, titles, known)
    columns = None
    if counts.n_ratings is not None:
        columns = ItemColumns.of(counts.n_ratings, items.genres, items.years, counts.numbers)
    categories = None
    if "variety" in manifest.graphs:
        categories = categories_and_membership(len(items.ids), items.genres)[1]
    top_k, similar = manifest.graphs[list_graphs(manifest.graphs)[-1]].top_k, manifest.similar_items
    assert top_k is not None  # open_bundle has checked it
    assert similar is not None  # every export has it
    inputs = ExportInputs(
        module=fitted.module,
        arrays=fitted.arrays,
        seen=seen,
        sample=sample,
        top_k=top_k,
        fast="recommend_fast" in manifest.graphs,
        n_shards=len(shards_of(manifest.graphs)),
        scores=manifest.model.scores,
        similar=similar,
        item_support=counts.support,
        score_scale=manifest.model.score_scale,
        ids=ids,
        columns=columns,
        categories=categories,
        ranking_module=fitted.ranking_module,
        ranking=fitted.ranking,
        fold_in=fold_in,
        list_fold_in=manifest.list_fold_in,
        known_users=known,
    )
    if manifest.list_fold_in is not None:
        try:
            inputs = inputs.with_list_fold_in(with_enough_list_steps(inputs, manifest.list_fold_in))
        except GraphError as error:
            inputs, left_out["fold_in"] = replace(inputs, list_fold_in=None), str(error)
    inputs = replace(inputs, left_out=left_out)
    return inputs if manifest.explain is None else with_explain(inputs, manifest.explain.steps)
