"""A model repository for NVIDIA's Triton Inference Server: one model for each graph of a bundle.

REPOSITORY/GRAPH/config.pbtxt and REPOSITORY/GRAPH/1/model.onnx, with `tables.bin` beside it where the graph
refers to it. Every field is written, so that the server has nothing to guess. Field names are those of
Triton's model_config.proto (https://github.com/triton-inference-server/common).
"""

from __future__ import annotations

import shutil
from pathlib import Path

from export.graphs import GRAPHS
from export.graphs.spec import GraphSpec
from serve.bundle.bundle import Bundle
from serve.bundle.manifest import Graph, Tensor
from serve.bundle.onnx_wire import read_tensors
from serve.files.atomic import check_target, new_folder
from serve.files.names import TABLES_NAME

# What a folder must hold to be replaced as a repository of ours.
MARKER = "recommend/config.pbtxt"
DATA_TYPES = {"int64": "TYPE_INT64", "float32": "TYPE_FP32", "bool": "TYPE_BOOL", "string": "TYPE_STRING"}
# How long a request waits for others, in microseconds: less than one recommendation takes.
QUEUE_DELAY = 100


def check_repository_target(output: Path, *, overwrite: bool) -> None:
    """Whether a repository may be written to `output`: asked before the work, not after it.

    Raises:
        OutputError: something is there without `overwrite`, or it is no repository of ours.
    """
    check_target(output.absolute(), overwrite, MARKER)


def write_repository(bundle: Bundle, output: Path, *, overwrite: bool = False) -> None:
    """Write a bundle's graphs as a model repository, whole or not at all.

    Args:
        bundle: a checked bundle.
        output: the folder to make.
        overwrite: replace a repository that is there.

    Raises:
        OutputError: as `check_repository_target`.
        OSError: not writable, or the disk is full.
    """
    with new_folder(output, overwrite=overwrite, marker=MARKER) as folder:
        for spec in GRAPHS:
            if spec.name not in bundle.manifest.graphs:
                continue
            graph = bundle.manifest.graphs[spec.name]
            version = folder / spec.name / "1"
            version.mkdir(parents=True)
            (folder / spec.name / "config.pbtxt").write_text(config(spec, graph), encoding="utf-8")
            source = bundle.file(graph.file)
            shutil.copyfile(source, version / "model.onnx")
            if any(tensor.external for tensor in read_tensors(source.read_bytes(), str(source))):
                shutil.copyfile(bundle.file(TABLES_NAME), version / TABLES_NAME)


def config(spec: GraphSpec, graph: Graph) -> str:
    """The text of `config.pbtxt`.

    Triton takes the batch axis for itself; an input that has no other, like `user_index` [B], is sent as
    [B, 1] and reshaped to [B].
    """
    kind = "KIND_CPU" if spec.cpu_only else "KIND_AUTO"
    warmup = "\n".join(_warmup(tensor) for tensor in graph.inputs)
    return f"""\
name: "{spec.name}"
backend: "onnxruntime"
default_model_filename: "model.onnx"
version_policy {{ latest {{ num_versions: 1 }} }}
max_batch_size: {spec.max_batch}
input [
{_tensors(graph.inputs)}
]
output [
{_tensors(graph.outputs)}
]
instance_group [ {{ kind: {kind} count: 1 }} ]
dynamic_batching {{ max_queue_delay_microseconds: {QUEUE_DELAY} }}
model_warmup [
  {{
    name: "one row"
    batch_size: 1
    count: 1
{warmup}
  }}
]
"""


def _tensors(tensors: list[Tensor]) -> str:
    return ",\n".join(f"  {{\n{_tensor(tensor)}\n  }}" for tensor in tensors)


def _tensor(tensor: Tensor) -> str:
    lines = [f'name: "{tensor.name}"', f"data_type: {DATA_TYPES[tensor.dtype]}"]
    dims = _dims(tensor)
    if dims:
        lines.append(f"dims: [ {', '.join(map(str, dims))} ]")
    else:
        lines += ["dims: [ 1 ]", "reshape { shape: [ ] }"]
    return "\n".join(f"    {line}" for line in lines)


def _dims(tensor: Tensor) -> list[int]:
    """The shape without the batch axis; -1 where any size will do."""
    return [size if isinstance(size, int) else -1 for size in tensor.shape[1:]]


def _warmup(tensor: Tensor) -> str:
    """Zeros, or empty strings: the average user, nothing excluded."""
    dims = ", ".join("1" for _ in _dims(tensor)) or "1"
    value = f"data_type: {DATA_TYPES[tensor.dtype]} dims: [ {dims} ] zero_data: true"
    return f'    inputs {{ key: "{tensor.name}" value {{ {value} }} }}'
