"""From a run to a bundle: graphs, tables, golden vectors, parity, manifest; whole or not at all."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import onnx_ir as ir
import pandas as pd

from export.errors import ParityError
from export.graphs.build import IR_VERSION, OPSET
from export.model.arrays import DotArrays
from export.model.fold_in_choice import choose_fold_in
from export.verify.verify import verify_folder
from export.write import profiles
from export.write import tables_file as tables
from export.write.graph_files import (
    TablesFile,
    describe_graph,
    list_files,
    list_tables,
    write_conformance,
    write_graphs,
)
from export.write.held_out import held_out
from export.write.run_inputs import Trained, build_graphs, load_trained
from recsys.training.evaluate_run import evaluate_run
from serve.bundle import manifest as m
from serve.bundle.ids import write_items, write_users
from serve.bundle.profiles import PROFILES_NAME
from serve.bundle.seen import write_seen
from serve.files.atomic import new_folder, write_file
from serve.files.names import MANIFEST_NAME

TOP_K = 100


def export_run(
    run: Path,
    output: Path,
    *,
    top_k: int = TOP_K,
    tables_file: TablesFile = "auto",
    raw_ids: bool = False,
    overwrite: bool = False,
    progress: Callable[[str], None] = lambda step: None,
) -> m.Manifest:
    """Export a run to a new bundle, and verify it before it gets its name.

    Args:
        run: a run folder.
        output: the bundle to make.
        top_k: K, baked into the ranking graphs; at most the number of items.
        tables_file: whether tables go to one shared `tables.bin`; "auto": when they are large.
        raw_ids: add `recommend_by_id.onnx`.
        overwrite: replace a bundle that is there.
        progress: called with each step's name.

    Raises:
        CheckpointError: the run is damaged.
        GraphError: the model can't be written.
        ParityError: a graph does not agree with torch; there is no bundle then.
        OutputError: `output` is there without `overwrite`, or can't be replaced.
    """
    with new_folder(output, overwrite=overwrite) as folder:
        progress("reading the run")
        trained = load_trained(run)
        top_k = min(top_k, trained.interactions.n_items)
        fold_in = None
        if isinstance(trained.arrays, DotArrays):
            progress("choosing the fold-in ridge")
            fold_in = choose_fold_in(trained.arrays, trained.histories(), trained.run.info.data.ratings_range)
        progress("writing graphs")
        ids = trained.id_tables() if raw_ids else None
        graphs = build_graphs(trained.module, trained.arrays, top_k, fold_in, ids)
        arrays = {name: tables.initializers(model) for name, model in graphs.items()}
        write_graphs(folder, graphs, tables_file)
        progress("writing ids and seen items")
        _write_data(folder, trained)
        _write_profiles(folder, trained)
        write_conformance(folder, trained.arrays, trained.seen_by, trained.score_span, top_k, fold_in, ids)
        progress("verifying against torch")
        parity = verify_folder(
            folder,
            arrays,
            trained.module,
            trained.arrays,
            trained.sample(),
            trained.score_span,
            top_k,
            fold_in,
            ids,
        )
        if not parity.passed:
            raise ParityError(f"no bundle was written: {describe_failures(parity)}")
        progress("measuring on held-out ratings")
        metrics = evaluate_run(trained.run)
        manifest = _manifest(folder, trained, graphs, arrays, fold_in, parity, metrics)
        write_file(folder / MANIFEST_NAME, m.encode_manifest(manifest))
    return manifest


def describe_failures(parity: m.Parity) -> str:
    """One line that names what disagrees, by how much."""
    return "; ".join(
        f"{check.graph} on {check.provider} is off by {check.max_error:.3g} (tolerance {check.tolerance:.3g})"
        for check in parity.checks
        if not check.passed
    )


def _write_data(folder: Path, trained: Trained) -> None:
    data = trained.interactions
    write_users(folder / "users.parquet", data.users["user_id"].to_numpy())
    extra = {"titles": "title", "genres": "genres", "years": "year"}
    known = {name: data.items[column].tolist() for name, column in extra.items() if column in data.items}
    write_items(folder / "items.parquet", data.items["item_id"].to_numpy(), **known)
    write_seen(folder / "seen.parquet", data.user_index, data.item_index, data.ratings, data.timestamps)


def _write_profiles(folder: Path, trained: Trained) -> None:
    data = trained.interactions
    chosen = profiles.choose_profiles(
        trained.arrays,
        trained.module.get_parameter("user_factors").detach().cpu().numpy(),
        np.bincount(data.user_index[~trained.held_out], minlength=data.n_users + 1),
        np.bincount(data.item_index, minlength=data.n_items + 1),
        _known(data.items, "genres"),
    )
    (folder / PROFILES_NAME).write_bytes(profiles.encode(chosen))


def _known(items: pd.DataFrame, column: str) -> list[Any] | None:
    """A column of the catalogue, None for what is missing; None where the data has no such column."""
    if column not in items:
        return None
    return [
        None if missing else value for value, missing in zip(items[column], items[column].isna(), strict=True)
    ]


def _manifest(
    folder: Path,
    trained: Trained,
    graphs: Mapping[str, ir.Model],
    arrays: Mapping[str, Mapping[str, npt.NDArray[Any]]],
    fold_in: m.FoldIn | None,
    parity: m.Parity,
    metrics: Mapping[str, Any],
) -> m.Manifest:
    info = trained.run.info
    settings = asdict(info.training)
    y_range = trained.arrays.y_range
    # What varies between two runs of the same training (seconds) stays out: same checkpoint, same bytes.
    history = [
        {
            key: value
            for key, value in msgspec.structs.asdict(epoch).items()
            if value is not None and key != "seconds"
        }
        for epoch in info.history
    ]
    return m.Manifest(
        format_version=m.FORMAT_VERSION,
        opset=OPSET,
        ir_version=IR_VERSION,
        model=m.Model(
            kind=trained.run.kind,
            config=info.model.config,
            n_users=trained.interactions.n_users,
            n_items=trained.interactions.n_items,
            n_factors=trained.arrays.item_factors.shape[1],
            score_range=y_range,
        ),
        data=m.Data(
            name=info.data.name,
            sha256=info.data.sha256,
            n_ratings=info.data.n_ratings,
            ratings_range=info.data.ratings_range,
            item_key=info.data.item_key,
            licence=info.data.licence,
        ),
        split=asdict(info.split),
        training=m.Training(settings=settings, seed=info.training.seed, history=history),
        metrics=dict(metrics),
        parity=parity,
        fold_in=fold_in,
        held_out=held_out(trained),
        graphs={name: describe_graph(name, model) for name, model in graphs.items()},
        tables=list_tables(arrays),
        files=list_files(folder),
        versions=current_versions(),
    )


def current_versions() -> dict[str, str]:
    """Versions of what takes part in an export."""
    return {name: version(name) for name in ("recsys-onnx", "torch", "onnx", "onnx-ir", "onnxscript")}
