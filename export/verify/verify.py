"""Parity: every graph, on every available device, against the trained torch module.

The truth is torch's `forward` for every item of a user; of fold-in, which torch lacks, it is
`numpy.linalg.solve` in float64. The file of a graph says how its answers are compared.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from export.errors import ParityError
from export.graphs import graphs_of
from export.graphs.packed_tables import with_packed_tables
from export.graphs.spec import Comparison
from export.model.arrays import Float64
from export.model.inputs import ExportInputs
from export.verify.compression import read_packed, with_compression, with_tables_of
from export.verify.runners import onnxruntime_runner, reference_runner
from export.write.run_inputs import load_run_inputs
from export.write.tables_file import initializers
from serve.bundle.bundle import open_bundle
from serve.bundle.manifest import Check, Parity
from serve.bundle.shards import list_graphs, shards_of
from serve.runtime.session import Device, open_session, session_device

Initializers = Mapping[str, Mapping[str, npt.NDArray[Any]]]
"""graph -> name -> array"""

# Relative to the table's largest entry. Tables are copied, or derived in float64 and rounded once, so that
# they differ by one or two units in the last place.
TABLE_TOLERANCE = 1e-6
# onnx.reference is plain numpy, and slow: a few rows prove the operators' semantics.
N_REFERENCE = 8
VALUES_AT_ONCE = 1 << 22
# JSON has no infinity: the largest float stands for it.
LARGEST = float(np.finfo(np.float32).max)


def verify(bundle: Path, run: Path) -> Parity:
    """Compare every graph of a bundle with its run, on every available device.

    Raises:
        BundleError: the bundle is damaged.
        CheckpointError: the run is damaged.
        ParityError: the run is not the one that the bundle was exported from.
    """
    opened = open_bundle(bundle)
    manifest = opened.manifest
    if manifest.additions:
        raise ParityError(
            f"items were added to {bundle} after training, and were compared with torch then. Verify the "
            f"bundle that training made, version {manifest.additions[0].base_version}."
        )
    weights = [part.weight for part in manifest.model.parts if part.objective == "ratings"]
    loaded = load_run_inputs(run, weights[0] if weights and manifest.model.lists == "ranking" else None)
    exported = (manifest.model.kind, manifest.model.n_users, manifest.model.n_items)
    trained = (loaded.run.info.part.kind, loaded.interactions.n_users, loaded.interactions.n_items)
    if exported != trained:
        raise ParityError(
            f"{bundle} holds {exported} (kind, users, items), {run} {trained}: not the same model"
        )
    top_k = manifest.graphs[list_graphs(manifest.graphs)[-1]].top_k
    assert top_k is not None  # open_bundle has checked it
    raw_ids = "recommend_by_id" in manifest.graphs
    inputs = loaded.inputs(
        top_k,
        raw_ids=raw_ids,
        fast="recommend_fast" in manifest.graphs,
        n_shards=len(shards_of(manifest.graphs)),
        filtered=manifest.item_rules is not None,
        explain=manifest.explain or False,
        variety="variety" in manifest.graphs,
        fold_in=(manifest.fold_in, manifest.list_fold_in),
        similar=manifest.similar_items,
    )
    exact, inputs = inputs, with_tables_of(inputs, read_packed(opened))
    expected = {name: initializers(model) for name, model in build_graphs(inputs).items()}
    parity = verify_folder(bundle, expected, inputs)
    return with_compression(parity, loaded, exact, inputs, manifest.tables)


def build_graphs(inputs: ExportInputs) -> dict[str, ir.Model]:
    """Every graph that applies, by name; with packed tables where the inputs have some."""
    return {spec.name: with_packed_tables(spec.build(inputs), inputs.packed) for spec in graphs_of(inputs)}


def verify_folder(folder: Path, expected: Initializers, inputs: ExportInputs) -> Parity:
    """Compare the graphs in `folder`, which needs no manifest, with the torch module that they are made from.

    `expected` holds the initializers of each graph, as the inputs' arrays give them.
    """
    checks = [_checked("tables", "file", compare_tables(folder, expected))]
    devices: list[Device] = ["cpu"]
    if session_device(open_session(folder / "score.onnx", "auto")) == "cuda":
        devices.append("cuda")
    runners = [(str(device), onnxruntime_runner(folder, device), inputs.sample) for device in devices]
    runners.append(("onnx.reference", reference_runner(folder), inputs.sample.head(N_REFERENCE)))
    for provider, run, sample in runners:
        for spec in graphs_of(inputs):
            lacking = {"cuda": spec.cpu_only, "onnx.reference": spec.onnxruntime_only}.get(provider, False)
            if not lacking:
                checks.append(_checked(spec.name, provider, spec.check(run, inputs, sample)))
    return Parity(passed=all(check.passed for check in checks), checks=checks)


def compare_tables(folder: Path, expected: Initializers) -> Comparison:
    """Compare every initializer in `folder` with the run's: a damaged row that no sample asks for shows here.

    Returns:
        Largest and mean error, relative to the largest entry of their table.
    """
    n, total, worst = 0, 0.0, [0.0]
    for graph, arrays in expected.items():
        found = initializers(ir.load(folder / f"{graph}.onnx"))
        for name, wanted in arrays.items():
            n += wanted.size
            array = found.get(name)
            if array is None or array.shape != wanted.shape or array.dtype != wanted.dtype:
                worst.append(np.inf)
                continue
            for errors in _table_errors(array.ravel(), wanted.ravel()):
                worst.append(float(errors.max()))
                total += float(errors.sum())
    return Comparison(n, np.array(worst), TABLE_TOLERANCE, mean_error=total / max(n, 1))


def _table_errors(found: npt.NDArray[Any], wanted: npt.NDArray[Any]) -> Iterator[Float64]:
    """Errors of the parts of a table that are not equal: whole tables in float64 would be as large as two."""
    is_float = wanted.dtype.kind == "f"
    size = (max(wanted.max(initial=0), -wanted.min(initial=0)) or 1.0) if is_float else 1.0
    for start in range(0, len(wanted), VALUES_AT_ONCE):
        part = slice(start, start + VALUES_AT_ONCE)
        if np.array_equal(found[part], wanted[part]):
            continue
        if is_float:
            yield np.abs(found[part].astype(np.float64) - wanted[part]) / size
        else:
            yield np.where(found[part] == wanted[part], 0.0, np.inf)


def _checked(graph: str, provider: str, comparison: Comparison) -> Check:
    errors = np.minimum(np.nan_to_num(comparison.errors, nan=np.inf, posinf=np.inf), LARGEST)
    worst, mean = float(errors.max(initial=0.0)), comparison.mean_error
    rmse_torch, rmse_onnx = comparison.rmse or (None, None)
    return Check(
        graph=graph,
        provider=provider,
        n=comparison.n,
        max_error=worst,
        mean_error=min(float(errors.mean()) if mean is None else mean, LARGEST),
        tolerance=comparison.tolerance,
        passed=worst <= comparison.tolerance,
        list_agreement=comparison.list_agreement,
        rmse_torch=rmse_torch,
        rmse_onnx=rmse_onnx,
    )


def describe_failures(parity: Parity) -> str:
    """The checks that failed, and their errors, on one line."""
    return "; ".join(
        f"{check.graph} on {check.provider} is off by {check.max_error:.3g} (tolerance {check.tolerance:.3g})"
        for check in parity.checks
        if not check.passed
    )
