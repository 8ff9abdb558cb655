"""A model repository for NVIDIA's Triton Inference Server: one model for each graph of a bundle.

REPOSITORY/GRAPH/config.pbtxt and REPOSITORY/GRAPH/1/model.onnx, with the bundle's `tables.bin` beside it if
there is one. Every field is written, so that the server completes none by itself. Field names are those of
Triton's model_config.proto (https://github.com/triton-inference-server/common).
"""

from __future__ import annotations

import shutil
from pathlib import Path

from export.graphs import GRAPHS
from export.graphs.spec import GraphSpec
from serve.bundle.bundle import Bundle
from serve.bundle.manifest import Graph, Tensor
from serve.files.atomic import new_folder
from serve.files.names import TABLES_NAME

# A file of every repository: a folder without it is never replaced.
MARKER = "score/config.pbtxt"
DATA_TYPES = {"int64": "TYPE_INT64", "float32": "TYPE_FP32", "bool": "TYPE_BOOL", "string": "TYPE_STRING"}
# How long a request waits for others, in microseconds: less than one recommendation takes.
QUEUE_DELAY = 100


def write_repository(bundle: Bundle, output: Path, *, overwrite: bool = False) -> None:
    """Write a bundle's graphs as a model repository in the folder `output`, whole or not at all.

    Raises:
        OutputError: `output` is there without `overwrite`, or is no model repository.
        OSError: not writable, or the disk is full.
    """
    with new_folder(output, overwrite=overwrite, marker=MARKER) as folder:
        for spec in GRAPHS:
            graph = bundle.manifest.graphs.get(spec.name)
            if graph is None:
                continue
            version = folder / spec.name / "1"
            version.mkdir(parents=True)
            (folder / spec.name / "config.pbtxt").write_text(config(spec, graph), encoding="utf-8")
            shutil.copyfile(bundle.file(graph.file), version / "model.onnx")
            if TABLES_NAME in bundle.manifest.files:
                shutil.copyfile(bundle.file(TABLES_NAME), version / TABLES_NAME)


def config(spec: GraphSpec, graph: Graph) -> str:
    """The text of `config.pbtxt`.

    Triton adds the batch axis to every shape; an input that has no other axis, like `user_index` [B], is sent
    as [B, 1] and reshaped to [B].
    """
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
instance_group [ {{ kind: {"KIND_CPU" if spec.cpu_only else "KIND_AUTO"} count: 1 }} ]
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
    blocks = []
    for tensor in tensors:
        dims = [size if isinstance(size, int) else -1 for size in tensor.shape[1:]]  # -1: any size
        shape = (
            f"dims: [ {', '.join(map(str, dims))} ]" if dims else "dims: [ 1 ]\n    reshape { shape: [ ] }"
        )
        head = f'name: "{tensor.name}"\n    data_type: {DATA_TYPES[tensor.dtype]}'
        blocks.append(f"  {{\n    {head}\n    {shape}\n  }}")
    return ",\n".join(blocks)


def _warmup(tensor: Tensor) -> str:
    """Zeros, or empty strings: the average user, nothing excluded."""
    sizes = [size if isinstance(size, int) else 1 for size in tensor.shape[1:]]
    dims = ", ".join(map(str, sizes or [1]))
    value = f"data_type: {DATA_TYPES[tensor.dtype]} dims: [ {dims} ] zero_data: true"
    return f'    inputs {{ key: "{tensor.name}" value {{ {value} }} }}'
