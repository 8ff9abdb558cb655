"""A bundle with more items, made from a bundle and ratings: nothing is trained, no other score changes."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import torch
from torch import nn

from export.add_items.appended_tables import write_more_items, write_more_seen
from export.add_items.item_rows import Choice, choose_regularization, with_items
from export.add_items.new_ratings import NewRatings, select
from export.errors import GraphError, ParityError
from export.graphs.fold_in import folding
from export.model.dot import DotArrays
from export.model.id_tables import IdTables
from export.model.inputs import ExportInputs, Sample, SeenRatings
from export.write.fold_in_choice import made_up_histories, sample_histories, with_enough_steps
from export.write.graph_files import list_files, write_graphs
from export.write.run_inputs import N_PAIRS, N_USERS
from recsys.data.interactions import Interactions
from recsys.errors import ConfigError
from recsys.models import build, config_from_dict
from serve.bundle import manifest as m
from serve.bundle.bundle import BY_ID, Bundle, open_bundle
from serve.bundle.ids import IdIndex
from serve.bundle.items import Catalogue
from serve.bundle.profiles import PROFILES_NAME
from serve.errors import UnsupportedError
from serve.files.atomic import new_folder, write_file
from serve.files.names import MANIFEST_NAME, TABLES_NAME
from serve.runtime.session import open_session, run
from serve.runtime.validation import padded

KINDS = ("dot", "dot-bias")
# Far beyond what is chosen from. Further out, an item's row is whatever float64 rounds to, or the average.
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
    """Make a bundle that has the items of `data` too, from the ratings that they have.

    The new items get the next indices, in order of id. What users have rated of them counts as seen.

    Args:
        base: the bundle to start from; it stays as it is.
        data: ratings. Those of items that `base` has, and those by users that it does not have, are left out.
        output: the bundle to make.
        regularization: of the ridge regression, within `REGULARIZATION_RANGE`; None: chosen by leaving each
            rating out in turn.
        overwrite: replace a bundle that is there.
        progress: called with each step's name.

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
    bundle = open_bundle(base)
    manifest = bundle.manifest
    if manifest.model.kind not in KINDS:
        raise UnsupportedError(
            f"{base} holds a model of the kind {manifest.model.kind}, where a new item has no closed form. "
            f"Items can be added to {' and '.join(KINDS)}. Train again with the new ratings."
        )
    with new_folder(output, overwrite=overwrite) as folder:
        users = IdIndex.read(bundle.file("users.parquet"), "user_id", manifest.model.n_users)
        items = Catalogue(bundle.file("items.parquet"), manifest.model.n_items)
        new = select(data, users, items, manifest.data.ratings_range)
        progress("solving for the new items")
        old_arrays, rated = _arrays(bundle), new.of_items()
        choice = Choice(regularization, None) if regularization else choose_regularization(old_arrays, rated)
        arrays = with_items(old_arrays, rated, choice.regularization)
        progress("writing ids and seen items")
        for name in ("users.parquet", PROFILES_NAME):
            if name in manifest.files:
                shutil.copyfile(bundle.file(name), folder / name)
        write_more_items(folder, bundle, new.items)
        seen = write_more_seen(folder, bundle, new)
        inputs = _inputs(manifest, arrays, seen, len(new.items), _id_tables(folder, users, arrays.n_items))
        graphs = write_graphs(
            folder,
            inputs,
            "always" if TABLES_NAME in manifest.files else "auto",
            progress,
            lambda: _check_unchanged(bundle, folder),
        )
        made = msgspec.structs.replace(
            manifest,
            model=msgspec.structs.replace(
                manifest.model, n_items=arrays.n_items, score_span=inputs.score_span
            ),
            files=list_files(folder),
            additions=[*manifest.additions, _addition(bundle, data, new, choice)],
            **graphs,
        )
        write_file(folder / MANIFEST_NAME, m.encode_manifest(made))
    return made


def _arrays(bundle: Bundle) -> DotArrays:
    biased = bundle.manifest.model.kind == "dot-bias"
    return DotArrays(
        user_factors=bundle.table("user_factors"),
        item_factors=bundle.table("item_factors"),
        user_biases=bundle.table("user_biases") if biased else None,
        item_biases=bundle.table("item_biases") if biased else None,
        y_range=bundle.manifest.model.score_range,
    )


def _module(manifest: m.Manifest, arrays: DotArrays) -> nn.Module:
    """The torch model with these tables."""
    kind = manifest.model.kind
    config = config_from_dict(kind, manifest.model.config)
    module = build(kind, config, arrays.n_users, arrays.n_items)
    tables = {name: getattr(arrays, name) for name in module.state_dict()}
    module.load_state_dict({name: torch.from_numpy(table.copy()) for name, table in tables.items()})
    return module.eval()


def _inputs(
    manifest: m.Manifest, arrays: DotArrays, seen: SeenRatings, n_new: int, ids: IdTables
) -> ExportInputs:
    """What the new graphs are made from: the ridge of the base, with more steps where new items need them."""
    sample, fold_in, left_out = _sample(manifest, n_new, seen), manifest.fold_in, dict(manifest.left_out)
    if fold_in is not None:
        try:
            fold_in = with_enough_steps(folding(arrays), sample.histories, fold_in)
        except GraphError as error:
            fold_in, left_out["fold_in"] = None, str(error)
    top_k = manifest.graphs["recommend"].top_k
    assert top_k is not None  # open_bundle has checked it
    return ExportInputs(
        module=_module(manifest, arrays),
        arrays=arrays,
        seen=seen,
        sample=sample,
        top_k=top_k,
        scores=manifest.model.scores,
        score_scale=manifest.model.score_scale,
        ids=ids if BY_ID in manifest.graphs else None,
        fold_in=fold_in,
        left_out=left_out,
    )


def _id_tables(folder: Path, users: IdIndex, n_items: int) -> IdTables:
    """What stands for each row outside, for `recommend_by_id.onnx`."""
    items = Catalogue(folder / "items.parquet", n_items)
    return IdTables(
        user_ids=users.ids(np.arange(1, len(users) + 1)),
        item_ids=items.ids.ids(np.arange(1, n_items + 1)),
        titles=[title or "" for title in items.titles] if items.has_titles else None,
    )


def _check_unchanged(bundle: Bundle, folder: Path) -> None:
    """Old scores, bit for bit: of row 0 and of a sample of pairs, through the graphs of both bundles.

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


def _sample(manifest: m.Manifest, n_new: int, seen: SeenRatings) -> Sample:
    """What the new graphs are asked: every new item (up to a number), and as many old ones."""
    rng = np.random.default_rng(1)
    n_users, n_old = manifest.model.n_users, manifest.model.n_items
    new = n_old + 1 + rng.permutation(n_new)
    items = np.concatenate([[0], new[:N_USERS], 1 + rng.permutation(n_old)[:N_USERS]])
    users = np.append(0, 1 + rng.permutation(n_users)[:N_USERS])
    half = np.resize(new, N_PAIRS // 2)
    pair_items = np.concatenate([[0, 0, 1], half, rng.integers(1, n_old + 1, N_PAIRS // 2)])
    pair_users = np.append([0, 1, 0], rng.integers(0, n_users + 1, len(pair_items) - 3))
    histories = sample_histories(
        seen.user_index, seen.item_index, seen.ratings, rng.random(len(seen.ratings)) < 0.2, rng
    )
    return Sample(
        pairs=(pair_users, pair_items),
        ratings=np.full(len(pair_items), np.nan, np.float32),
        users=users,
        exclude=padded([seen.of_user(int(user))[0] for user in users], np.int64),
        items=items,
        histories=histories or made_up_histories(n_old + n_new, manifest.data.ratings_range),
    )


def _addition(bundle: Bundle, data: Interactions, new: NewRatings, choice: Choice) -> m.Addition:
    return m.Addition(
        base_version=bundle.version,
        data=data.name,
        data_sha256=data.sha256,
        item_ids=new.items["item_id"].tolist(),
        n_item_ratings=np.bincount(new.item, minlength=len(new.items)).tolist(),
        n_unknown_users=new.n_unknown_users,
        n_items_left_out=new.n_items_left_out,
        n_known_items=new.n_known_items,
        regularization=choice.regularization,
        left_out_rmse=choice.left_out_rmse,
    )
