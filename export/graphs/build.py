"""What the hand-written graphs share: inputs, ranking, outputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import onnx_ir as ir
from onnxscript import GraphBuilder

from export.graphs.spec import TensorSpec
from export.model.arrays import to_range
from export.model.reference import MASKED

# The newest opset at which every operator used here has a CUDA kernel; newer nodes would silently run on
# the CPU. It is also what OpenVINO, TensorRT and tract all read.
OPSET = 18
IR_VERSION = 8

DTYPES = {
    "int64": ir.DataType.INT64,
    "float32": ir.DataType.FLOAT,
    "bool": ir.DataType.BOOL,
    "string": ir.DataType.STRING,
}


def begin(
    name: str, inputs: Sequence[TensorSpec], dtypes: Mapping[str, str] = {}, sizes: Mapping[str, int] = {}
) -> tuple[GraphBuilder, list[ir.Value]]:
    """A graph that has only its inputs, and these inputs; `dtypes` and `sizes` as for `finish`."""
    graph = GraphBuilder(ir.Graph([], [], nodes=[], opset_imports={"": OPSET}, name=name))
    values = [
        graph.input(
            tensor.name,
            DTYPES[dtypes.get(tensor.name, tensor.dtype)],
            [sizes.get(size, size) for size in tensor.shape],
        )
        for tensor in inputs
    ]
    return graph, values


def finish(
    graph: GraphBuilder,
    outputs: Sequence[TensorSpec],
    values: Mapping[str, ir.Value],
    sizes: Mapping[str, int],
    dtypes: Mapping[str, str] = {},
) -> ir.Model:
    """The model with these outputs; an optional one is left out where it has no value.

    `sizes` are those that are baked in, such as "K"; `dtypes` the types of tensors of type "id".
    """
    for tensor in outputs:
        if tensor.optional and tensor.name not in values:
            continue
        value = values[tensor.name]
        value.name = tensor.name
        value.type = ir.TensorType(DTYPES[dtypes.get(tensor.name, tensor.dtype)])
        value.shape = ir.Shape([sizes.get(size, size) for size in tensor.shape])
        graph.graph.outputs.append(value)
    return stamp(ir.Model(graph.graph, ir_version=IR_VERSION))


def stamp(model: ir.Model) -> ir.Model:
    """Set the producer, and drop what varies between two exports of the same model.

    Stack traces and scopes name source lines and folders, so bytes would depend on the path.
    """
    model.producer_name = "recsys-onnx"
    model.producer_version = None
    model.metadata_props.clear()
    graph = model.graph
    graph.metadata_props.clear()
    graph.doc_string = None
    for node in graph:
        node.metadata_props.clear()
        node.doc_string = None
    outputs = [value for node in graph for value in node.outputs]
    for value in (*graph.inputs, *graph.initializers.values(), *outputs):
        value.metadata_props.clear()
    return model


def rank(
    op: Any,
    logits: ir.Value,
    exclude: ir.Value,
    top_k: int,
    row_bias: ir.Value | None = None,
    y_range: tuple[float, float] | None = None,
) -> dict[str, ir.Value]:
    """The K best columns of each row, best first, equal ones in order of index.

    Args:
        op: the builder's operators.
        logits: float32 [B, N]; column 0 is "unknown" and never ranked.
        exclude: int64 [B, E], columns to leave out; 0 is padding.
        top_k: K, at most N - 1.
        row_bias: float32 [B, 1]. It does not change a row's order, so it is added to the K best only.
        y_range: the sigmoid range, applied to the K best only: that is cheaper, and a runtime's rational
            approximation of the sigmoid makes ties that the logits don't have.

    Returns:
        `top_item_indices` int64 [B, K] and `top_scores` float32 [B, K]; where fewer than K are left, index 0
        and -1e30.
    """
    # The extra column of zeros masks index 0, and keeps the scatter from being empty when E = 0.
    column_shape = op.Concat(op.Shape(exclude, start=0, end=1), [1], axis=0)
    masked = op.Concat(exclude, op.Expand([0], column_shape), axis=1)  # [B, E + 1]
    updates = op.Expand(MASKED, op.Shape(masked))
    candidates = op.ScatterElements(logits, masked, updates, axis=1)
    values, indices = op.TopK(candidates, [top_k], axis=-1, largest=1, sorted=1, _outputs=2)
    left = op.Greater(values, MASKED / 10)
    scores = to_range(op, values if row_bias is None else op.Add(values, row_bias), y_range)
    return {
        "top_item_indices": op.Where(left, indices, 0),
        "top_scores": op.Where(left, scores, MASKED),
    }
