"""From a run to a bundle: graphs, tables, conformance cases, parity, manifest; whole or not at all."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from export.errors import ParityError
from export.model.inputs import ExportInputs
from export.model.row_solvers import ImplicitRidge
from export.model.side_by_side import SideBySide
from export.verify.compression import with_compression
from export.verify.evaluate_bundle import measure
from export.verify.verify import describe_failures
from export.write import profiles
from export.write.finish import finish
from export.write.graph_files import TablesFile, write_graphs
from export.write.held_out import held_out
from export.write.made_up_seen import made_up_seen
from export.write.packed_choice import packed_inputs
from export.write.run_inputs import LoadedRun, load_run_inputs
from recsys.errors import ConfigError
from recsys.memory import forecast
from recsys.training.evaluate_run import evaluate_run
from recsys.training.run_info import RunInfo
from serve.bundle import manifest as m
from serve.bundle.ids import write_items, write_users
from serve.bundle.packing import FLAGS
from serve.bundle.profiles import PROFILES_NAME
from serve.bundle.seen import write_seen
from serve.bundle.shards import MAX_SHARDS
from serve.bundle.summary import summary
from serve.files.atomic import new_folder
from serve.runtime.recommender import Recommender

TOP_K = 100
# Bytes that torch, onnx and ONNX Runtime take, and copies of the weights beside them: an estimate from one
# export of a million items, which took 2.6 GB for weights of 0.3 GB (docs/experiments.md). Shards add a copy.
LIBRARIES = 700_000_000
COPIES = 7


def export_run(
    run: Path,
    output: Path,
    *,
    top_k: int = TOP_K,
    tables_file: TablesFile = "auto",
    raw_ids: bool = False,
    fast: bool = False,
    shards: int = 0,
    filtered: bool = False,
    explain: bool = False,
    variety: bool = False,
    rating_weight: float | None = None,
    precision: str = "fp32",
    without_seen: bool = False,
    overwrite: bool = False,
    progress: Callable[[str], None] = lambda step: None,
) -> m.Manifest:
    """Export a run to a new bundle, and verify it before it gets its name.

    `top_k` is K, baked into the ranking graphs; the number of items if that is less. `tables_file` says
    whether tables go to one shared `tables.bin`; "auto": when they are large. `raw_ids` adds
    `recommend_by_id.onnx`, `fast` `recommend_fast.onnx`, `filtered` the graphs with rules, `explain`
    `explain.onnx`, `variety` `variety.onnx`. `shards`, 2 or more, are graphs of so many ranges of the items
    in place of `recommend.onnx`. `rating_weight` takes the place of the run's. Tables with a row for each
    user or item are packed to `precision`: "fp32", "fp16", "int8" or "int4". `without_seen` leaves out what
    users have rated: `seen.parquet`, and their ratings among the conformance cases.
    `progress` is called with the name of each step.

    Raises:
        CheckpointError: the run is damaged.
        ConfigError: a rating weight for a run without a part that predicts ratings beside one that ranks; or
            `fast` where an MLP orders the lists; or a precision that is none of the four; or a number of
            shards that the items can't be cut into.
        GraphError: the model can't be written.
        ParityError: a graph does not agree with torch; there is no bundle then.
        MemoryShortageError: it needs more memory than is free.
        OutputError: `output` is there without `overwrite`, or can't be replaced.
    """
    if precision not in FLAGS:
        raise ConfigError(f"precision must be one of {', '.join(FLAGS)}, got {precision!r}")
    with new_folder(output, overwrite=overwrite) as folder:
        progress("reading the run")
        _check_memory(run, COPIES + bool(shards))
        loaded = load_run_inputs(run, rating_weight)
        if shards:
            _check_shards(shards, loaded.interactions.n_items)
        progress("choosing the fold-in ridge")
        inputs = loaded.inputs(
            top_k,
            raw_ids=raw_ids,
            fast=fast,
            n_shards=shards,
            filtered=filtered,
            explain=explain,
            variety=variety,
        )
        if without_seen:
            made_up = made_up_seen(
                inputs.example_users, inputs.arrays.n_items, loaded.run.info.data.ratings_range
            )
            inputs = replace(inputs, seen=made_up)
        exact = inputs
        if precision != "fp32":
            progress(f"rounding tables to {precision}")
            inputs = packed_inputs(exact, FLAGS[precision])
        progress("writing ids and seen items")
        write_data(folder, loaded, inputs, without_seen=without_seen)
        made = write_graphs(folder, inputs, tables_file, progress)
        progress("measuring on held-out ratings")
        models = inputs.module, inputs.ranking_module or inputs.module
        metrics = evaluate_run(loaded.run, models=models)
        parity = with_compression(made["parity"], loaded, exact, inputs, made["tables"], metrics)
        if not parity.passed:
            raise ParityError(f"no bundle was written: {describe_failures(parity)}")
        made["parity"] = parity
        manifest = make_manifest(loaded, inputs, made, metrics)
        manifest = msgspec.structs.replace(manifest, without_seen=without_seen)
        manifest = finish(folder, manifest)
        if loaded.run.info.split.kind == "by-user" and "fold_in" in manifest.graphs:
            # torch has no fold-in: users held out whole are measured through the graph.
            metrics = measure(Recommender.load(folder, "cpu"), loaded.interactions, loaded.run.split())
            manifest = msgspec.structs.replace(manifest, metrics=metrics | {"summary": summary(metrics)})
            manifest = finish(folder, manifest)
    return manifest


def _check_shards(n_shards: int, n_items: int) -> None:
    """Raises ConfigError: there are fewer items than shards, or too few or many shards."""
    if not 2 <= n_shards <= MAX_SHARDS:
        raise ConfigError(f"there can be 2 to {MAX_SHARDS} shards, not {n_shards}")
    if n_shards > n_items:
        raise ConfigError(f"{n_shards} shards need as many items, and the run has {n_items}")


def _check_memory(run: Path, n_copies: int) -> None:
    """Log what an export with so many copies needs. Raises MemoryShortageError: more than there is."""
    weights = sum(path.stat().st_size for path in run.glob("weights-*.safetensors"))
    advice = "Free some, or train with fewer --factors."
    forecast("exporting", LIBRARIES + n_copies * weights, advice)


def write_data(folder: Path, loaded: LoadedRun, inputs: ExportInputs, *, without_seen: bool = False) -> None:
    """Write ids, seen items and, where anything was rated, profiles to the new bundle's folder."""
    data = loaded.interactions
    write_users(folder / "users.parquet", data.users["user_id"].to_numpy())
    known = loaded.described()
    write_items(folder / "items.parquet", data.items["item_id"].to_numpy(), **known)
    if not without_seen:
        given = data.user_index, data.item_index, data.ratings, data.timestamps
        write_seen(folder / "seen.parquet", *given)
    if not len(data):
        return
    chosen = profiles.choose_profiles(
        inputs.arrays,
        loaded.module.get_parameter("user_factors").detach().cpu().numpy(),
        np.bincount(data.user_index[~loaded.held_out], minlength=data.n_users + 1),
        np.bincount(data.item_index, minlength=data.n_items + 1),
        inputs.score_span,
        known.get("genres"),
    )
    (folder / PROFILES_NAME).write_bytes(profiles.encode(chosen))


def _parts(info: RunInfo) -> list[m.FittedPart]:
    ranks = any(part.objective == "ranking" for part in info.parts)
    return [
        m.FittedPart(
            kind=part.kind,
            config=part.config,
            objective=part.objective,
            weight=info.rating_weight if ranks and part.objective == "ratings" else part.weight,
        )
        for part in info.parts
    ]


def _ranking(ranking: SideBySide) -> m.RankingTables:
    parts = []
    for part in ranking.parts:
        confidence = None
        if isinstance(part.solver, ImplicitRidge) and part.solver.back is None:
            confidence = (float(part.solver.confidence[0]), float(part.solver.confidence[1]))
        parts.append(
            m.RankingPart(
                kind=part.kind,
                width=part.width,
                factor=part.factor,
                predicts_ratings=part.predicts_ratings,
                confidence=confidence,
            )
        )
    return m.RankingTables(parts=parts, popularity=ranking.popularity)


def make_manifest(
    loaded: LoadedRun, inputs: ExportInputs, made: Mapping[str, Any], metrics: dict[str, Any]
) -> m.Manifest:
    """The manifest of what `write_graphs` described as `made`, without its files; metrics by name."""
    info = loaded.run.info
    part, data = info.part, info.data
    settings = (asdict(part.training) if part.training else {}) | {"seed": info.seed}
    # Seconds differ between two runs of the same training, so they stay out: same checkpoint, same bytes.
    unit = "epoch" if part.training else "iteration"
    history = [{unit: one.number, **one.metrics} for one in part.history]
    return m.Manifest(
        format_version=m.FORMAT_VERSION,
        model=m.Model(
            kind=part.kind,
            config=part.config,
            n_users=loaded.interactions.n_users,
            n_items=loaded.interactions.n_items,
            n_factors=inputs.arrays.item_factors.shape[1],
            scores=inputs.scores,
            score_scale=inputs.score_scale,
            score_span=inputs.score_span,
            score_range=inputs.arrays.y_range,
            lists=inputs.scores if inputs.ranking_module is None else "ranking",
            list_span=inputs.list_span,
            parts=_parts(info),
            ranking=None if inputs.ranking is None else _ranking(inputs.ranking),
        ),
        data=m.Data(**{name: getattr(data, name) for name in m.Data.__struct_fields__}),
        split=asdict(info.split),
        training=m.Training(settings=settings, seed=info.seed, history=history),
        metrics=metrics | {"summary": summary(metrics)},
        held_out=held_out(replace(loaded, module=inputs.module)),
        files={},
        **made,
    )
