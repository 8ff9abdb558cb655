"""Two ways to run the graphs that are verified: onnxruntime on a device, and ONNX's reference evaluator."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx.reference import ReferenceEvaluator

from export.graphs.spec import Named, Runner
from serve.runtime.session import Device, open_session
from serve.runtime.session import run as run_session

Feeds = Mapping[str, npt.NDArray[Any]]


def onnxruntime_runner(folder: Path, device: Device) -> Runner:
    """Run `folder/GRAPH.onnx` in onnxruntime on "cpu" or "cuda", in full float32 (TF32 off).

    Raises:
        DeviceError: "cuda" does not work.
    """
    session_of = cache(lambda graph: open_session(folder / f"{graph}.onnx", device))

    def run(graph: str, feeds: Feeds) -> Named:
        session = session_of(graph)
        names = [output.name for output in session.get_outputs()]
        return dict(zip(names, run_session(session, feeds), strict=True))

    return run


def reference_runner(folder: Path) -> Runner:
    """Run `folder/GRAPH.onnx` in `onnx.reference`, the executable specification of the operators."""
    evaluator_of = cache(lambda graph: ReferenceEvaluator(onnx.load(folder / f"{graph}.onnx")))

    def run(graph: str, feeds: Feeds) -> Named:
        evaluator = evaluator_of(graph)
        # Its sigmoid overflows, correctly to 0, where the tail of a list is masked. BLAS may raise "invalid"
        # for what lies beside the operands in memory; a value that is no number fails the comparison.
        with np.errstate(over="ignore", invalid="ignore"):
            outputs = evaluator.run(None, dict(feeds))
        return dict(zip(evaluator.output_names, outputs, strict=True))

    return run
