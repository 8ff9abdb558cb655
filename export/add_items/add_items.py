"""A bundle with more items, made from a bundle and ratings: nothing is trained, no other score changes."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import torch
from torch import nn

from export.add_items.appended_tables import all_features, write_more_items, write_more_seen
from export.add_items.bundle_ranking import bundle_ranking, old_ratings, product_of, without_popularity
from export.add_items.item_rows import Choice, ItemPrior, Rated, choose_regularization, with_items
from export.add_items.new_ratings import NewRatings, select
from export.add_items.ranking_rows import Placed, with_ranked_items
from export.errors import GraphError, ParityError
from export.graphs.fold_in import ridge_arrays
from export.model.arrays import Float32
from export.model.dot import DotArrays
from export.model.inputs import ExportInputs, IdTables, Sample, SeenRatings
from export.model.item_columns import ItemColumns
from export.model.side_by_side import SideBySide
from export.model.similar_items import support
from export.write.explain_choice import with_explain
from export.write.fold_in_choice import made_up_histories, sample_histories, with_enough_steps
from export.write.graph_files import list_files, write_graphs
from export.write.list_fold_in_choice import with_enough_list_steps
from export.write.run_inputs import N_PAIRS, N_USERS
from recsys.data.interactions import Interactions
from recsys.errors import ConfigError
from recsys.models import build, config_from_dict
from serve.bundle import manifest as m
from serve.bundle.bundle import Bundle
from serve.bundle.ids import IdIndex
from serve.bundle.items import Catalogue
from serve.bundle.profiles import PROFILES_NAME
from serve.errors import UnsupportedError
from serve.files.atomic import new_folder, write_file
from serve.files.names import MANIFEST_NAME, TABLES_NAME
from serve.runtime.checked_graph import check_all
from serve.runtime.recommender import Recommender
from serve.runtime.session import open_session, run

FACTORS = ("user_factors", "item_factors")
TABLES = {
    "dot": FACTORS,
    "dot-bias": (*FACTORS, "user_biases", "item_biases"),
    "bayes": (*FACTORS, "item_biases"),
}
"""Kinds of model in which a new item has a closed form, and their tables."""
# Wider than the values that are chosen from. Below, a row is rounding error; above, it is the average item's.
REGULARIZATION_RANGE = (1e-6, 1e6)


def add_items(
    base: Path,
    data: Interactions,
    output: Path,
    *,
    regularization: float | None = None,
    overwrite: bool = False,
    progress: Callable[[str], None] = lambda step: None,
) -> m.Manifest:
    """Make a bundle that also has the items of `data`, placed by their ratings.

    The new items get the next indices, in order of id. Their ratings count as seen.

    The bundle `base` is not changed. Ratings in `data` of items that it has, or by users that it does not
    have, are left out. The regularization of the ridge regression is within `REGULARIZATION_RANGE`; None: it
    is chosen by leaving each rating out in turn. `progress` is called with the name of each step.

    Raises:
        ConfigError: the regularization is out of range.
        BundleError: `base` is damaged.
        UnsupportedError: its model has no closed form for a new item.
        AdditionError: nothing in `data` can be added.
        GraphError: more ids than `recommend_by_id.onnx` may hold.
        ParityError: the new graphs do not agree with torch, or another score would change.
        OutputError: `output` is there without `overwrite`, or can't be replaced.
    """
    lowest, highest = REGULARIZATION_RANGE
    if regularization is not None and not lowest <= regularization <= highest:  # NaN fails, too
        raise ConfigError(
            f"regularization is {regularization}: it must be a number from {lowest:g} to {highest:g}"
        )
    progress("checking the bundle")
    recommender = Recommender.load(base, "cpu")
    check_all(recommender)
    bundle = recommender.bundle
    manifest = bundle.manifest
    predicts = manifest.model.scores == "ratings"
    if manifest.model.kind not in TABLES if predicts else manifest.model.ranking is None:
        raise UnsupportedError(
            f"{base} holds a model of the kind {manifest.model.kind}, where a new item has no closed form. "
            f"Items can be added to products of tables. Train again with the new ratings."
        )
    if regularization is not None and not predicts:
        raise ConfigError(f"{base} has no part that predicts ratings: leave out --regularization")
    with new_folder(output, overwrite=overwrite) as folder:
        users = IdIndex.read(bundle.file("users.parquet"), "user_id", manifest.model.n_users)
        items = Catalogue(bundle.file("items.parquet"), manifest.model.n_items)
        new = select(data, users, items, manifest.data.ratings_range)
        progress("solving for the new items")
        rated, placed = new.of_items(), None
        arrays, choice = None, None
        if predicts:
            arrays, choice = _with_items(bundle, rated, all_features(bundle, new.items), regularization)
        if manifest.model.ranking is not None:
            placed = with_ranked_items(bundle_ranking(bundle), rated, old_ratings(bundle), arrays)
        if arrays is None:
            assert placed is not None
            arrays = without_popularity(placed.ranking)
        progress("writing ids and seen items")
        for name in ("users.parquet", PROFILES_NAME):
            if name in manifest.files:
                shutil.copyfile(bundle.file(name), folder / name)
        write_more_items(folder, bundle, new.items)
        seen = write_more_seen(folder, bundle, new)
        items = Catalogue(folder / "items.parquet", arrays.n_items)
        inputs = _inputs(bundle, arrays, placed.ranking if placed else None, seen, users, items)
        made = write_graphs(
            folder,
            inputs,
            "always" if TABLES_NAME in manifest.files else "auto",
            progress,
            lambda: _check_unchanged(bundle, folder),
        )
        replaced = msgspec.structs.replace
        model = replaced(manifest.model, n_items=arrays.n_items, score_span=inputs.score_span)
        model = replaced(model, list_span=inputs.list_span)
        additions = [*manifest.additions, _addition(bundle, data, new, choice, placed)]
        manifest = replaced(manifest, model=model, files=list_files(folder), additions=additions, **made)
        write_file(folder / MANIFEST_NAME, m.encode_manifest(manifest))
    return manifest


def _with_items(
    bundle: Bundle, rated: Sequence[Rated], features: Float32, regularization: float | None
) -> tuple[DotArrays, Choice]:
    """The part that predicts ratings, with the new items."""
    model = bundle.manifest.model
    state = {name: bundle.table(name) for name in TABLES[model.kind]}
    arrays = DotArrays.of_state(state, model.score_range)
    prior = ItemPrior.of(arrays, len(rated), features)
    choice = Choice(regularization, None) if regularization else choose_regularization(prior, rated)
    return with_items(prior, rated, choice.regularization), choice


def _module(manifest: m.Manifest, arrays: DotArrays) -> nn.Module:
    """The torch model with these tables."""
    kind = manifest.model.kind
    module = build(kind, config_from_dict(kind, manifest.model.config), arrays.n_users, arrays.n_items)
    tables = {name: torch.from_numpy(getattr(arrays, name).copy()) for name in TABLES[kind]}
    module.load_state_dict(tables)
    return module.eval()


def _inputs(
    bundle: Bundle,
    arrays: DotArrays,
    ranking: SideBySide | None,
    seen: SeenRatings,
    users: IdIndex,
    items: Catalogue,
) -> ExportInputs:
    """What the new graphs are made from: the base's ridge, with more steps where new items need them."""
    manifest = bundle.manifest
    similar = manifest.similar_items
    assert similar is not None  # every export has it
    # The ratings of new items are all training ratings.
    n_new = np.bincount(seen.item_index, minlength=arrays.n_items + 1)[manifest.model.n_items + 1 :]
    item_support = np.append(bundle.table("item_support"), support(n_new, similar.shrinkage))
    sample = _sample(manifest, seen, arrays.n_items)
    fold_in, left_out = manifest.fold_in, dict(manifest.left_out)
    if fold_in is not None:
        try:
            fold_in = with_enough_steps(ridge_arrays(arrays), sample.histories, fold_in)
        except GraphError as error:
            fold_in, left_out["fold_in"] = None, str(error)
    ids = None
    if "recommend_by_id" in manifest.graphs:
        titles = [title or "" for title in items.titles] if items.has_titles else None
        user_ids, item_ids = (table.ids(np.arange(1, 1 + len(table))) for table in (users, items.ids))
        ids = IdTables(user_ids, item_ids, titles)
    columns = None
    if manifest.item_rules is not None:
        n_ratings = np.append(bundle.table("item_n_ratings")[0], n_new).astype(np.int64)
        columns = ItemColumns.of(n_ratings, items.genres, items.years)
    top_k = manifest.graphs["recommend"].top_k
    assert top_k is not None  # open_bundle has checked it
    product = None if ranking is None else product_of(without_popularity(ranking))
    module = _module(manifest, arrays) if product is None or manifest.model.scores == "ratings" else product
    inputs = ExportInputs(
        module=module,
        arrays=arrays,
        seen=seen,
        sample=sample,
        top_k=top_k,
        fast="recommend_fast" in manifest.graphs,
        scores=manifest.model.scores,
        similar=similar,
        item_support=item_support,
        score_scale=manifest.model.score_scale,
        ids=ids,
        columns=columns,
        ranking_module=product,
        ranking=ranking,
        fold_in=fold_in,
        list_fold_in=manifest.list_fold_in,
    )
    if manifest.list_fold_in is not None:
        try:
            inputs = inputs.with_list_fold_in(with_enough_list_steps(inputs, manifest.list_fold_in))
        except GraphError as error:
            inputs, left_out["fold_in"] = replace(inputs, list_fold_in=None), str(error)
    inputs = replace(inputs, left_out=left_out)
    return inputs if manifest.explain is None else with_explain(inputs, manifest.explain.steps)


def _sample(manifest: m.Manifest, seen: SeenRatings, n_items: int) -> Sample:
    """The sample for verification: new items (all, up to a number), and as many old ones."""
    rng = np.random.default_rng(1)
    n_users, n_old = manifest.model.n_users, manifest.model.n_items
    new = n_old + 1 + rng.permutation(n_items - n_old)
    half = N_PAIRS // 2
    held_out = rng.random(len(seen.ratings)) < 0.2
    histories = sample_histories(seen.user_index, seen.item_index, seen.ratings, held_out, rng)
    return Sample.of(
        seen,
        users=1 + rng.permutation(n_users)[:N_USERS],
        items=np.append(new[:N_USERS], 1 + rng.permutation(n_old)[:N_USERS]),
        pairs=(
            rng.integers(0, n_users + 1, 2 * half),
            np.append(np.resize(new, half), rng.integers(1, n_old + 1, half)),
        ),
        ratings=None,
        histories=histories or made_up_histories(n_items, manifest.data.ratings_range),
    )


def _check_unchanged(bundle: Bundle, folder: Path) -> None:
    """Compare old scores bit for bit: of row 0 and of a sample of pairs, through the graphs of both bundles.

    Raises:
        ParityError: one differs.
    """
    model = bundle.manifest.model
    rng = np.random.default_rng(2)
    pairs = {
        "user_index": np.append(0, rng.integers(0, model.n_users + 1, N_PAIRS)),
        "item_index": np.append(0, rng.integers(0, model.n_items + 1, N_PAIRS)),
    }
    before, after = (
        run(open_session(path, "cpu"), pairs)[0]
        for path in (bundle.path / bundle.manifest.graphs["score"].file, folder / "score.onnx")
    )
    if different := int((before != after).sum()):
        raise ParityError(
            f"no bundle was written: {different:,} of {len(before):,} scores of old items would change. The "
            f"base was exported by another release of torch or of this toolkit; export its run again."
        )


def _addition(
    bundle: Bundle, data: Interactions, new: NewRatings, choice: Choice | None, placed: Placed | None
) -> m.Addition:
    return m.Addition(
        base_version=bundle.version,
        data=data.name,
        data_sha256=data.sha256,
        item_ids=new.items["item_id"].tolist(),
        n_item_ratings=np.bincount(new.item, minlength=len(new.items)).tolist(),
        n_unknown_users=new.n_unknown_users,
        n_items_left_out=new.n_items_left_out,
        n_known_items=new.n_known_items,
        regularization=choice.regularization if choice else None,
        left_out_rmse=choice.left_out_rmse if choice else None,
        list_rows=placed.rows if placed else {},
    )
