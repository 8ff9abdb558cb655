"""Two ways to run the graphs that are verified: onnxruntime on a device, and ONNX's reference evaluator."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir
import onnxruntime as ort
from onnx.reference import ReferenceEvaluator

from export.graphs.spec import Named, Runner
from serve.files.names import TABLES_NAME
from serve.runtime.session import Device, open_session
from serve.runtime.session import run as run_session

# Bytes; smaller ones may lie in a graph.
LARGE_TENSOR = 1 << 20

Feeds = Mapping[str, npt.NDArray[Any]]


def onnxruntime_runner(folder: Path, device: Device) -> Runner:
    """Run `folder/GRAPH.onnx` in onnxruntime on "cpu" or "cuda", in full float32 (TF32 off).

    Raises:
        DeviceError: "cuda" does not work.
    """
    # Graphs are asked one after the other. Large tables are used where they are mapped, by one session.
    shared = (folder / TABLES_NAME).exists()
    session_of = lru_cache(1)(
        lambda graph: open_session(folder / f"{graph}.onnx", device, share_tables=shared)
    )

    def run(graph: str, feeds: Feeds) -> Named:
        session = session_of(graph)
        names = [output.name for output in session.get_outputs()]
        return dict(zip(names, run_session(session, feeds), strict=True))

    return run


def reference_runner(folder: Path) -> Runner:
    """Run `folder/GRAPH.onnx` in `onnx.reference`, the executable specification of the operators."""

    @lru_cache(1)
    def evaluator_of(graph: str) -> tuple[ReferenceEvaluator, Feeds]:
        """The evaluator, and tables in another file: they become inputs, as it would copy them twice."""
        path = folder / f"{graph}.onnx"
        held = {name: value.const_value for name, value in ir.load(path).graph.initializers.items()}
        tables = {name: one.numpy() for name, one in held.items() if isinstance(one, ir.ExternalTensor)}
        model = onnx.load(path, load_external_data=False)
        for tensor in [one for one in model.graph.initializer if one.name in tables]:
            value = onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tuple(tensor.dims))
            model.graph.input.append(value)
            model.graph.initializer.remove(tensor)
        return ReferenceEvaluator(model), tables

    def run(graph: str, feeds: Feeds) -> Named:
        evaluator, tables = evaluator_of(graph)
        # Its sigmoid overflows, correctly to 0, where the tail of a list is masked. BLAS may raise "invalid"
        # for what lies beside the operands in memory; a value that is no number fails the comparison.
        with np.errstate(over="ignore", invalid="ignore"):
            outputs = evaluator.run(None, {**feeds, **tables})
        return dict(zip(evaluator.output_names, outputs, strict=True))

    return run


def open_in_memory(model: ir.Model) -> ort.InferenceSession:
    """A session on the CPU for a graph that is not written; it reads large tables where they are.

    A protobuf would hold another copy, and ends at 2 GiB. The graph has no tables afterwards.
    """
    options, tables = ort.SessionOptions(), {}
    for name, value in model.graph.initializers.items():
        tensor = value.const_value
        assert tensor is not None
        if tensor.nbytes >= LARGE_TENSOR:
            tables[name] = ort.OrtValue.ortvalue_from_numpy(tensor.numpy())
            value.const_value = ir.ExternalTensor(
                "in memory", 0, tensor.nbytes, tensor.dtype, shape=ir.Shape(tensor.shape.numpy()), name=name
            )
    options.add_external_initializers(list(tables), list(tables.values()))
    proto = ir.to_proto(model).SerializeToString()
    return ort.InferenceSession(proto, options, providers=["CPUExecutionProvider"])
