"""The part of a bundle that `ExportInputs` determine: graphs, conformance cases, parity, and their manifest
entries.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import numpy.typing as npt
import onnx_ir as ir

from export.errors import ParityError
from export.graphs import graphs_of
from export.graphs.build import IR_VERSION, OPSET
from export.graphs.spec import GraphSpec
from export.model.inputs import ExportInputs
from export.verify.verify import build_graphs, describe_failures, verify_folder
from export.write import tables_file as tables
from serve.bundle import manifest as m
from serve.bundle.conformance import write_conformance
from serve.bundle.shards import whole_table
from serve.files.checksum import sha256_of
from serve.files.names import CONFORMANCE_NAME

TablesFile = Literal["auto", "always", "never"]
PACKAGES = ("recsys-onnx", "torch", "onnx", "onnx-ir", "onnxscript")


def write_graphs(
    folder: Path,
    inputs: ExportInputs,
    tables_file: TablesFile,
    progress: Callable[[str], None],
    check_written: Callable[[], None] = lambda: None,
) -> dict[str, Any]:
    """Write every graph that applies and `conformance.json` to `folder`, and verify them.

    `tables_file` and `progress` as in `export_run`; `check_written` is a further check of the files, before
    the verification. Returns the fields of `Manifest` that describe the graphs, by name.

    Raises:
        GraphError: a graph can't be written.
        ParityError: a graph does not agree with torch.
    """
    progress("writing graphs")
    graphs = build_graphs(inputs)
    arrays = {name: tables.initializers(model) for name, model in graphs.items()}
    n_bytes = sum(array.nbytes for named in arrays.values() for array in named.values())
    if tables_file == "always" or (tables_file == "auto" and n_bytes > tables.LARGE):
        tables.move_out(graphs.values(), folder)
    for name, model in graphs.items():
        data = ir.to_proto(model).SerializeToString(deterministic=True)
        (folder / f"{name}.onnx").write_bytes(data)
    specs = graphs_of(inputs)
    write_conformance(folder / CONFORMANCE_NAME, {spec.name: spec.cases(inputs) for spec in specs})
    check_written()
    progress("verifying against torch")
    parity = verify_folder(folder, arrays, inputs)
    if not parity.passed:
        raise ParityError(f"no bundle was written: {describe_failures(parity)}")
    return {
        "opset": OPSET,
        "ir_version": IR_VERSION,
        "parity": parity,
        "fold_in": inputs.fold_in,
        "list_fold_in": inputs.list_fold_in,
        "similar_items": inputs.similar,
        "left_out": dict(inputs.left_out),
        "explain": inputs.explain,
        "item_rules": None if inputs.columns is None else inputs.columns.described,
        "graphs": {spec.name: _describe(spec, graphs[spec.name], inputs) for spec in specs},
        "tables": _list_tables(arrays, inputs),
        "versions": {name: version(name) for name in PACKAGES},
    }


def list_files(folder: Path) -> dict[str, m.File]:
    """Sizes and checksums of the files in a folder that has no manifest yet."""
    return {path.name: describe_file(path) for path in sorted(folder.iterdir())}


def describe_file(path: Path) -> m.File:
    """Its size and checksum."""
    return m.File(bytes=path.stat().st_size, sha256=sha256_of(path))


def _describe(spec: GraphSpec, model: ir.Model, inputs: ExportInputs) -> m.Graph:
    return m.Graph(
        file=f"{spec.name}.onnx",
        inputs=[_tensor(value) for value in model.graph.inputs],
        outputs=[_tensor(value) for value in model.graph.outputs],
        tolerance=spec.tolerance(inputs),
        precision=inputs.precision if inputs.packed.keys() & model.graph.initializers.keys() else "float32",
        items=spec.items(inputs),
        top_k=spec.top_k(inputs) if any("K" in tensor.shape for tensor in spec.outputs) else None,
    )


def _tensor(value: ir.Value) -> m.Tensor:
    assert value.name is not None
    assert value.dtype is not None
    assert value.shape is not None
    shape = [int(size) if isinstance(size, int) else str(size) for size in value.shape]
    dtype = "string" if value.dtype == ir.DataType.STRING else value.dtype.numpy().name
    return m.Tensor(name=value.name, dtype=dtype, shape=shape)


def _list_tables(arrays: Mapping[str, Mapping[str, npt.NDArray[Any]]], inputs: ExportInputs) -> list[m.Table]:
    """The tables of a model. `arrays`: graph -> name -> initializer."""
    found: dict[str, m.Table] = {}
    for graph, named in arrays.items():
        for name, array in named.items():
            if name in found:
                found[name].graphs.append(graph)
            elif tables.is_table(name, array):
                shape, dtype = list(array.shape), array.dtype.name
                packed = inputs.packed.get(whole_table(name))
                found[name] = m.Table(
                    name=name,
                    dtype=dtype,
                    shape=shape,
                    bytes=array.nbytes,
                    graphs=[graph],
                    packing=None if packed is None else packed.packing,
                )
    return list(found.values())
