"""A bundle with more items, made from a bundle and ratings: nothing is trained, no other score changes."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import numpy as np
import pandas as pd
import torch
from torch import nn

from export.add_items.appended_tables import all_features, write_more_items, write_more_seen
from export.add_items.bundle_inputs import Fitted, ItemCounts, bundle_inputs, rule_numbers
from export.add_items.bundle_ranking import bundle_ranking, old_ratings
from export.add_items.item_rows import Choice, ItemPrior, Rated, choose_regularization, with_items
from export.add_items.new_ratings import NewRatings, select
from export.add_items.ranking_rows import Placed, with_ranked_items
from export.errors import ParityError
from export.model.arrays import Float32
from export.model.dot import DotArrays
from export.model.inputs import ExportInputs, Sample, SeenRatings
from export.model.product_module import product_module
from export.model.side_by_side import SideBySide
from export.model.similar_items import support
from export.write.finish import finish
from export.write.fold_in_choice import made_up_histories, sample_histories
from export.write.graph_files import write_graphs
from export.write.run_inputs import N_PAIRS, N_USERS
from recsys.data.interactions import Interactions
from recsys.errors import ConfigError
from recsys.models import build, config_from_dict
from serve.bundle import manifest as m
from serve.bundle.bundle import Bundle
from serve.bundle.changes import Addition
from serve.bundle.ids import IdIndex
from serve.bundle.items import Catalogue
from serve.bundle.profiles import PROFILES_NAME
from serve.errors import UnsupportedError
from serve.files.atomic import new_folder
from serve.files.names import TABLES_NAME
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
    if manifest.parity.compression is not None:
        raise UnsupportedError(
            f"{base} has packed tables ({manifest.parity.compression.precision}), and new rows would round "
            f"the old ones again. Add the items to a bundle of --precision fp32."
        )
    if manifest.without_seen:
        raise UnsupportedError(
            f"{base} was exported without what users have rated, by which new items are placed: export its "
            f"run again with it."
        )
    if manifest.model.kind not in TABLES if predicts else manifest.model.ranking is None:
        raise UnsupportedError(
            f"{base} holds a model of the kind {manifest.model.kind}, where a new item has no closed form. "
            f"Items can be added to products of tables. Train again with the new ratings."
        )
    if regularization is not None and not predicts:
        raise ConfigError(f"{base} has no part that predicts ratings: leave out --regularization")
    with new_folder(output, overwrite=overwrite) as folder:
        users = recommender.users
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
            arrays = placed.ranking.without_popularity
        progress("writing ids and seen items")
        for name in ("users.parquet", PROFILES_NAME):
            if name in manifest.files:
                shutil.copyfile(bundle.file(name), folder / name)
        write_more_items(folder, bundle, new.items)
        seen = write_more_seen(folder, bundle, new)
        items = Catalogue(folder / "items.parquet", arrays.n_items)
        inputs = _inputs(bundle, arrays, placed.ranking if placed else None, seen, users, items, new.items)
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
        return finish(folder, replaced(manifest, model=model, additions=additions, **made))


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
    new_items: pd.DataFrame,
) -> ExportInputs:
    """What the new graphs are made from."""
    manifest = bundle.manifest
    similar = manifest.similar_items
    assert similar is not None  # every export has it
    # The ratings of new items are all training ratings.
    n_new = np.bincount(seen.item_index, minlength=arrays.n_items + 1)[manifest.model.n_items + 1 :]
    n_ratings = None
    if manifest.item_rules is not None:
        n_ratings = np.append(bundle.table("item_n_ratings")[0], n_new).astype(np.int64)
    product = None if ranking is None else product_module(ranking.without_popularity)
    module = _module(manifest, arrays) if product is None or manifest.model.scores == "ratings" else product
    return bundle_inputs(
        bundle,
        Fitted(module, arrays, product, ranking),
        seen,
        _sample(manifest, seen, arrays.n_items, users),
        ItemCounts(
            np.append(bundle.table("item_support"), support(n_new, similar.shrinkage)),
            n_ratings,
            rule_numbers(bundle, new_items),
        ),
        users,
        items,
    )


def _sample(manifest: m.Manifest, seen: SeenRatings, n_items: int, known: IdIndex) -> Sample:
    """The sample for verification: new items (all, up to a number), and as many old ones."""
    rng = np.random.default_rng(1)
    n_users, n_old = manifest.model.n_users, manifest.model.n_items
    new = n_old + 1 + rng.permutation(n_items - n_old)
    half = N_PAIRS // 2
    held_out = rng.random(len(seen.ratings)) < 0.2
    histories = sample_histories(seen.user_index, seen.item_index, seen.ratings, held_out, rng)
    return Sample.of(
        seen,
        users=rng.permutation(known.known_rows)[:N_USERS],
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
) -> Addition:
    return Addition(
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
