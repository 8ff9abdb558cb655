"""`recommend.onnx`: users in, their K best items out; the whole retrieval in one graph."""

from __future__ import annotations

from typing import Any

import onnx_ir as ir
from onnxscript import GraphBuilder

from export.graphs.build import begin, finish, rank, table
from export.model.arrays import Arrays, DotArrays, MlpArrays

# The widest part of an MLP's first activation that is computed at once, in floats per user: 256 KiB, so
# that it stays in a core's L2 cache and memory does not grow with the catalogue.
CHUNK_FLOATS = 65_536
# More chunks than this cost more in graph size and start-up than they save in memory.
MAX_CHUNKS = 64


def recommend_graph(arrays: Arrays, top_k: int) -> ir.Model:
    """The graph of design "recommend".

    Inputs: `user_index` int64 [B]; `exclude_item_indices` int64 [B, E], 0-padded.
    Outputs: `top_item_indices` int64 [B, K]; `top_scores` float32 [B, K] (ratings).
    """
    graph = begin("recommend")
    user_index = graph.input("user_index", ir.DataType.INT64, ["B"])
    exclude = graph.input("exclude_item_indices", ir.DataType.INT64, ["B", "E"])
    indices, scores = best_items(graph, arrays, user_index, exclude, top_k)
    return finish(
        graph,
        [
            ("top_item_indices", indices, ir.DataType.INT64, ["B", top_k]),
            ("top_scores", scores, ir.DataType.FLOAT, ["B", top_k]),
        ],
    )


def best_items(
    graph: GraphBuilder, arrays: Arrays, user_index: ir.Value, exclude: ir.Value, top_k: int
) -> tuple[ir.Value, ir.Value]:
    """The K best items of each user (int64 [B]) but for the excluded (int64 [B, E]): as `rank` gives them."""
    if isinstance(arrays, DotArrays):
        logits, row_bias = _dot_logits(graph, arrays, user_index)
    else:
        logits, row_bias = _mlp_logits(graph, arrays, user_index), None
    return rank(graph.op, logits, exclude, top_k, row_bias, arrays.y_range)


def _dot_logits(
    graph: GraphBuilder, arrays: DotArrays, user_index: ir.Value
) -> tuple[ir.Value, ir.Value | None]:
    """Logits without the user's bias, float32 [B, N], and that bias, [B, 1]."""
    op = graph.op
    user = op.Gather(table(graph, "user_factors", arrays.user_factors), user_index)
    row_bias = None
    if arrays.user_biases is not None:
        row_bias = op.Gather(table(graph, "user_biases", arrays.user_biases), user_index)
    return item_logits(graph, arrays, user), row_bias


def item_logits(graph: GraphBuilder, arrays: DotArrays, user: ir.Value) -> ir.Value:
    """`user` float32 [B, F] against every item: float32 [B, N]. One Gemm on the table that Gather reads."""
    op = graph.op
    operands = [user, table(graph, "item_factors", arrays.item_factors)]
    if arrays.item_biases is not None:
        operands.append(op.Reshape(table(graph, "item_biases", arrays.item_biases), [1, -1]))
    result: ir.Value = op.Gemm(*operands, transB=1)
    return result


def _mlp_logits(graph: GraphBuilder, arrays: MlpArrays, user_index: ir.Value) -> ir.Value:
    """Logits float32 [B, N], the catalogue taken in chunks."""
    op = graph.op
    user = op.Gather(table(graph, "user_hidden", arrays.user_hidden), user_index)
    user = op.Unsqueeze(user, [1])  # [B, 1, H]
    items = table(graph, "item_hidden", arrays.item_hidden)  # [N, H]
    n_rows, width = arrays.item_hidden.shape
    size = max(CHUNK_FLOATS // width, -(-n_rows // MAX_CHUNKS))
    layers = [
        (table(graph, f"layer_{i}_weight", weight.T), table(graph, f"layer_{i}_bias", bias))
        for i, (weight, bias) in enumerate(arrays.layers, 1)
    ]
    chunks = []
    for start in range(0, n_rows, size):
        chunk = op.Slice(items, [start], [min(start + size, n_rows)], [0]) if size < n_rows else items
        chunks.append(_mlp_chunk(op, user, chunk, layers))
    logits: ir.Value = chunks[0] if len(chunks) == 1 else op.Concat(*chunks, axis=1)
    return logits


def _mlp_chunk(op: Any, user: ir.Value, items: ir.Value, layers: list[tuple[ir.Value, ir.Value]]) -> ir.Value:
    """`user` [B, 1, H] against `items` [C, H]: logits [B, C]."""
    hidden = op.Add(user, items)  # [B, C, H]
    for weight, bias in layers:
        hidden = op.Add(op.MatMul(op.Relu(hidden), weight), bias)
    logits: ir.Value = op.Squeeze(hidden, [2])  # [B, C, 1] -> [B, C]
    return logits
