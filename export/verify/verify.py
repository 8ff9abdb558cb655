"""Parity: every graph, on every device that is really there, against the trained torch module.

The truth is torch's `forward`, asked for every item one pair at a time; what torch has no counterpart for
(fold-in) is compared with `numpy.linalg.solve` in float64. How a graph is compared stands in its own file.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from export.errors import ParityError
from export.graphs import GRAPHS
from export.graphs.spec import Comparison
from export.model.inputs import ExportInputs
from export.verify.runners import onnxruntime_runner, reference_runner
from export.write.run_inputs import load_run_inputs
from export.write.tables_file import initializers
from serve.bundle.bundle import open_bundle
from serve.bundle.manifest import Check, Parity
from serve.runtime.session import Device, open_session, session_device

# Tables are copied, or derived in float64 and rounded once: an ulp or two, never 1e-3. Of the largest entry.
TABLE_TOLERANCE = 1e-6
# onnx.reference is plain numpy, and slow: a few rows prove the operators' semantics.
N_REFERENCE = 8


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
    loaded = load_run_inputs(run)
    told = (manifest.model.kind, manifest.model.n_users, manifest.model.n_items)
    found = (loaded.run.kind, loaded.interactions.n_users, loaded.interactions.n_items)
    if told != found:
        raise ParityError(f"{bundle} holds {told} (kind, users, items), {run} {found}: not the same model")
    top_k = manifest.graphs["recommend"].top_k
    assert top_k is not None  # open_bundle has checked it
    inputs = loaded.inputs_with(top_k, manifest.fold_in, raw_ids="recommend_by_id" in manifest.graphs)
    expected = {name: initializers(model) for name, model in build_graphs(inputs).items()}
    return verify_folder(bundle, expected, inputs)


def build_graphs(inputs: ExportInputs) -> dict[str, ir.Model]:
    """Every graph that applies, by name."""
    return {spec.name: spec.build(inputs) for spec in GRAPHS if spec.applies(inputs)}


def verify_folder(
    folder: Path, expected: Mapping[str, Mapping[str, npt.NDArray[Any]]], inputs: ExportInputs
) -> Parity:
    """Compare the graphs in `folder` with a torch module.

    Args:
        folder: holds `GRAPH.onnx` and `tables.bin` where there is one; needs no manifest yet.
        expected: graph -> name -> initializer, as the inputs' arrays give them.
        inputs: what the graphs were made from.
    """
    found = {name: initializers(ir.load(folder / f"{name}.onnx")) for name in expected}
    checks = [_checked("tables", "file", compare_tables(found, expected))]
    # Every device that is really there: the CPU always, CUDA where a session ends up on it.
    devices: list[Device] = ["cpu"]
    if session_device(open_session(folder / "score.onnx", "auto")) == "cuda":
        devices.append("cuda")
    runners = [(str(device), onnxruntime_runner(folder, device), inputs.sample) for device in devices]
    runners.append(("onnx.reference", reference_runner(folder), inputs.sample.head(N_REFERENCE)))
    for provider, run, sample in runners:
        for spec in GRAPHS:
            if spec.name in expected and not (spec.cpu_only and provider == "cuda"):
                checks.append(_checked(spec.name, provider, spec.check(run, inputs, sample)))
    return Parity(passed=all(check.passed for check in checks), checks=checks)


def compare_tables(
    found: Mapping[str, Mapping[str, npt.NDArray[Any]]],
    expected: Mapping[str, Mapping[str, npt.NDArray[Any]]],
) -> Comparison:
    """Compare every initializer with what the run gives: no sample misses a damaged row here.

    Args:
        found: graph -> name -> array, as the files hold them.
        expected: the same, from the run.

    Returns:
        Errors relative to the largest entry of their table.
    """
    errors = []
    for graph, arrays in expected.items():
        for name, wanted in arrays.items():
            array = found[graph].get(name)
            if array is None or array.shape != wanted.shape or array.dtype != wanted.dtype:
                errors.append(np.array([np.inf]))
            elif wanted.dtype.kind != "f":
                errors.append(np.where(array == wanted, 0.0, np.inf).ravel())
            else:
                size = np.abs(wanted).max(initial=0) or 1.0
                errors.append(np.abs(array.astype(np.float64) - wanted).ravel() / size)
    together = np.concatenate(errors)
    return Comparison(len(together), together, TABLE_TOLERANCE)


def _checked(graph: str, provider: str, comparison: Comparison) -> Check:
    # NaN compares false, so it would pass a plain `<=` upside down: it counts as infinite. JSON has no
    # infinity: the largest float stands for it.
    errors = np.nan_to_num(comparison.errors, nan=np.inf)
    worst = float(errors.max(initial=0.0))
    largest = float(np.finfo(np.float32).max)
    rmse_torch, rmse_onnx = comparison.rmse or (None, None)
    return Check(
        graph=graph,
        provider=provider,
        n=comparison.n,
        max_error=min(worst, largest),
        mean_error=min(float(errors.mean()), largest),
        tolerance=comparison.tolerance,
        passed=worst <= comparison.tolerance,
        list_agreement=comparison.list_agreement,
        rmse_torch=rmse_torch,
        rmse_onnx=rmse_onnx,
    )


def describe_failures(parity: Parity) -> str:
    """One line that names what disagrees, by how much."""
    return "; ".join(
        f"{check.graph} on {check.provider} is off by {check.max_error:.3g} (tolerance {check.tolerance:.3g})"
        for check in parity.checks
        if not check.passed
    )
