"""Proving that a bundle agrees with the torch run that it came from."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy.typing as npt
import onnx_ir as ir
from torch import nn

from export.errors import ParityError
from export.graphs.recommend_by_id import IdTables
from export.model.arrays import Arrays
from export.verify.parity import (
    N_REFERENCE,
    SCORE_TOLERANCE,
    Sample,
    check_by_id,
    check_graphs,
    check_tables,
    report,
)
from export.verify.runners import onnxruntime_runner, reference_runner
from export.write.run_inputs import build_graphs, load_trained
from export.write.tables_file import initializers
from serve.bundle.bundle import open_bundle
from serve.bundle.manifest import FoldIn, Parity
from serve.runtime.session import Device, open_session, session_device


def verify(bundle: Path, run: Path) -> Parity:
    """Compare every graph of a bundle with its run, on every device that is really there.

    Raises:
        BundleError: the bundle is damaged.
        CheckpointError: the run is damaged.
        ParityError: the run is another model's, so there is nothing to compare.
    """
    manifest = open_bundle(bundle).manifest
    if manifest.additions:
        raise ParityError(
            f"items were added to {bundle} after training, and were compared with torch then. Verify the "
            f"bundle that training made, version {manifest.additions[0].base_version}."
        )
    trained = load_trained(run)
    told = (manifest.model.kind, manifest.model.n_users, manifest.model.n_items)
    found = (trained.run.kind, trained.interactions.n_users, trained.interactions.n_items)
    if told != found:
        raise ParityError(f"{bundle} holds {told} (kind, users, items), {run} {found}: not the same model")
    top_k = manifest.graphs["recommend"].top_k
    assert top_k is not None  # open_bundle has checked it
    ids = trained.id_tables() if "recommend_by_id" in manifest.graphs else None
    graphs = build_graphs(trained.module, trained.arrays, top_k, manifest.fold_in, ids)
    expected = {name: initializers(model) for name, model in graphs.items()}
    return verify_folder(
        bundle,
        expected,
        trained.module,
        trained.arrays,
        trained.sample(),
        trained.score_span,
        top_k,
        manifest.fold_in,
        ids,
    )


def verify_folder(
    folder: Path,
    expected: Mapping[str, Mapping[str, npt.NDArray[Any]]],
    module: nn.Module,
    arrays: Arrays,
    sample: Sample,
    score_span: float,
    top_k: int,
    fold_in: FoldIn | None,
    ids: IdTables | None = None,
) -> Parity:
    """Compare the graphs in `folder` with a torch module.

    Args:
        folder: holds `GRAPH.onnx` and `tables.bin` where there is one; needs no manifest yet.
        expected: graph -> name -> initializer, as the module's arrays give them.
        module: the model.
        arrays: the same model as arrays.
        sample: what the graphs are asked.
        score_span: width of the rating scale (ratings).
        top_k: K of the graphs.
        fold_in: what `fold_in.onnx` solves; None where there is no such graph.
        ids: what `recommend_by_id.onnx` holds; None where there is no such graph.
    """
    tolerance = SCORE_TOLERANCE * score_span
    found = {name: initializers(ir.load(folder / f"{name}.onnx")) for name in expected}
    checks = [check_tables(found, expected)]
    # Every device that is really there: the CPU always, CUDA where a session ends up on it.
    devices: list[Device] = ["cpu"]
    if session_device(open_session(folder / "score.onnx", "auto")) == "cuda":
        devices.append("cuda")
    runners = [(str(device), onnxruntime_runner(folder, device), sample) for device in devices]
    runners.append(("onnx.reference", reference_runner(folder), sample.head(N_REFERENCE)))
    for provider, run, asked in runners:
        checks += check_graphs(run, provider, module, arrays, asked, top_k, fold_in, tolerance)
        # Ids are looked up on the CPU alone: there are no other kernels.
        if ids is not None and provider != "cuda":
            checks.append(check_by_id(run, provider, module, ids, asked, top_k, tolerance))
    return report(checks)
