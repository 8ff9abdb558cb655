"""A bundle without some of its users, made from a bundle: nothing is trained."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from export.add_items.bundle_inputs import Fitted, bundle_inputs
from export.errors import ParityError
from export.forget.tables import Counts, fitted_without, item_counts, support_ratings, write_left_seen
from export.model.arrays import Int64
from export.model.inputs import ExportInputs, Sample, SeenRatings
from export.write import profiles
from export.write.finish import finish
from export.write.fold_in_choice import made_up_histories, sample_histories
from export.write.graph_files import write_graphs
from export.write.made_up_seen import made_up_seen
from export.write.run_inputs import N_PAIRS, N_USERS
from serve.bundle import manifest as m
from serve.bundle.bundle import Bundle
from serve.bundle.changes import Forgotten
from serve.bundle.ids import IdIndex, write_known_users
from serve.bundle.profiles import PROFILES_NAME
from serve.errors import RequestError, UnsupportedError
from serve.files.atomic import new_folder
from serve.files.names import TABLES_NAME
from serve.runtime.checked_graph import check_all
from serve.runtime.recommender import Recommender
from serve.runtime.session import open_session, run


def forget(
    base: Path,
    user_ids: Sequence[Any],
    output: Path,
    *,
    overwrite: bool = False,
    progress: Callable[[str], None] = lambda step: None,
) -> m.Manifest:
    """Make a bundle without users of `base`, which is not changed.

    Each keeps the index, has no id any more, and the row of the average user, which is the average of the
    others. Their ratings go from what users have rated, from the counts of ratings, from profiles and from
    conformance cases. Items' rows and settings stay as the training with these users made them.

    Raises:
        BundleError: `base` is damaged.
        UnknownIdError: an id is not in it.
        RequestError: no id, ids of the wrong type, or nobody would be left.
        UnsupportedError: packed tables.
        ParityError: the new graphs do not agree with torch, or another user's score would change.
        OutputError: `output` is there without `overwrite`, or can't be replaced.
    """
    progress("checking the bundle")
    recommender = Recommender.load(base, "cpu")
    check_all(recommender)
    bundle, known = recommender.bundle, recommender.users.known_rows
    if (compression := bundle.manifest.parity.compression) is not None:
        raise UnsupportedError(
            f"{bundle.path} has packed tables ({compression.precision}), which the average of those who stay "
            f"would round again. Take the users out of a bundle of --precision fp32."
        )
    forgotten = np.unique(recommender.resolve(list(user_ids), "error"))
    if not len(forgotten):
        raise RequestError("nobody is named: which users are to be forgotten?")
    if len(forgotten) == len(known):
        raise RequestError(f"these are all {len(known):,} users: delete the bundle instead")
    with new_folder(output, overwrite=overwrite) as folder:
        progress("taking the users out")
        stays = np.isin(np.arange(1, len(recommender.users) + 1), np.setdiff1d(known, forgotten))
        write_known_users(folder / "users.parquet", recommender.users.arrow_ids, stays)
        shutil.copyfile(bundle.file("items.parquet"), folder / "items.parquet")
        seen, counts = write_left_seen(folder, bundle, forgotten)
        fitted = fitted_without(bundle, forgotten, counts)
        n_forgotten = int(np.count_nonzero(~stays))
        users = IdIndex.read(folder / "users.parquet", "user_id", len(stays), n_forgotten)
        inputs = _inputs(recommender, fitted, seen, counts, users)
        if PROFILES_NAME in bundle.manifest.files:
            _write_profiles(folder, recommender, inputs, counts)
        made = write_graphs(
            folder,
            inputs,
            "always" if TABLES_NAME in bundle.manifest.files else "auto",
            progress,
            lambda: _check_scores(bundle, folder, forgotten, users.known_rows),
        )
        manifest = _manifest(bundle, inputs, seen, counts, len(forgotten))
        manifest = finish(folder, msgspec.structs.replace(manifest, **made))
        progress("checking the new bundle")
        check_all(Recommender.load(folder, "cpu"))
    return manifest


def _inputs(
    recommender: Recommender, fitted: Fitted, seen: SeenRatings, counts: Counts, users: IdIndex
) -> ExportInputs:
    """What the new graphs are made from."""
    bundle = recommender.bundle
    model, ratings_range = bundle.manifest.model, bundle.manifest.data.ratings_range
    rng = np.random.default_rng(1)
    held_out = rng.random(len(seen.ratings)) < 0.2
    histories = sample_histories(seen.user_index, seen.item_index, seen.ratings, held_out, rng)
    if bundle.manifest.without_seen:
        seen = made_up_seen(users.known_rows, model.n_items, ratings_range)
    sample = Sample.of(
        seen,
        users=rng.permutation(users.known_rows)[:N_USERS],
        items=1 + rng.permutation(model.n_items)[:N_USERS],
        pairs=(rng.integers(0, model.n_users + 1, N_PAIRS), rng.integers(1, model.n_items + 1, N_PAIRS)),
        ratings=None,
        histories=histories or made_up_histories(model.n_items, ratings_range),
    )
    return bundle_inputs(bundle, fitted, seen, sample, item_counts(bundle, counts), users, recommender.items)


def _write_profiles(folder: Path, recommender: Recommender, inputs: ExportInputs, counts: Counts) -> None:
    """Choose the profiles again, among the users who stay; there are none without rated items."""
    similar = inputs.similar
    n_ratings = counts.after
    if recommender.manifest.without_seen and similar.shrinkage:  # the only numbers that every bundle has
        n_ratings = support_ratings(inputs.item_support, similar.shrinkage)
    if not n_ratings[1:].any():
        return
    factors = inputs.module.get_parameter("user_factors").detach().numpy()
    has_row = (factors != factors[0]).any(axis=1)
    chosen = profiles.choose_profiles(
        inputs.arrays,
        factors,
        has_row.astype(np.int64),
        n_ratings,
        inputs.score_span,
        recommender.items.genres,
    )
    (folder / PROFILES_NAME).write_bytes(profiles.encode(chosen))


def _manifest(
    bundle: Bundle, inputs: ExportInputs, seen: SeenRatings, counts: Counts, n_users: int
) -> m.Manifest:
    """The manifest, but for what describes graphs and files."""
    old, replaced = bundle.manifest, msgspec.structs.replace
    model = replaced(old.model, score_span=inputs.score_span, list_span=inputs.list_span)
    if model.ranking is not None:
        assert inputs.ranking is not None
        model = replaced(model, ranking=replaced(model.ranking, popularity=inputs.ranking.popularity))
    additions, n_added = [], 0
    n_trained = old.model.n_items - sum(len(one.item_ids) for one in old.additions)
    for one in old.additions:
        of_items = one.n_item_ratings
        if not old.without_seen:
            start = 1 + n_trained + n_added
            of_items = counts.after[start : start + len(one.item_ids)].tolist()
        additions.append(replaced(one, n_item_ratings=of_items))
        n_added += len(one.item_ids)
    n_ratings = old.data.n_ratings
    if not old.without_seen:
        n_ratings = len(seen.ratings) - sum(sum(one.n_item_ratings) for one in additions)
    forgotten = [*old.forgotten, Forgotten(base_version=bundle.version, n_users=n_users)]
    data = replaced(old.data, n_ratings=n_ratings)
    return replaced(old, model=model, data=data, additions=additions, forgotten=forgotten)


def _check_scores(bundle: Bundle, folder: Path, forgotten: Int64, known: Int64) -> None:
    """Compare scores of a sample of pairs bit for bit: others' with the base's, the forgotten's with row 0's.

    Raises:
        ParityError: one differs.
    """
    rng = np.random.default_rng(2)
    items = rng.integers(0, bundle.manifest.model.n_items + 1, N_PAIRS)
    others = rng.choice(known, N_PAIRS)
    before, after = (
        open_session(path, "cpu")
        for path in (bundle.path / bundle.manifest.graphs["score"].file, folder / "score.onnx")
    )

    def scores(session: Any, users: Int64) -> np.ndarray:
        return run(session, {"user_index": users, "item_index": items})[0]

    if different := int((scores(before, others) != scores(after, others)).sum()):
        raise ParityError(
            f"no bundle was written: {different:,} of {len(items):,} scores of other users would change. The "
            f"base was exported by another release of torch or of this toolkit; export its run again."
        )
    average = scores(after, np.zeros_like(items))
    if (scores(after, np.resize(forgotten, len(items))) != average).any():
        raise ParityError("no bundle was written: a forgotten user has other scores than the average user")
