"""`similar_items.onnx`: items in, their K nearest neighbours by cosine out."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from export.graphs.build import begin, finish, rank, table
from export.model.arrays import Arrays, Float32


def item_directions(item_factors: Float32) -> Float32:
    """Rows scaled to length 1, float32 [n_items + 1, F]; a row of zeros stays zeros (cosine 0 to all)."""
    factors = item_factors.astype(np.float64)
    lengths = np.linalg.norm(factors, axis=1, keepdims=True)
    return (factors / np.where(lengths > 0, lengths, 1.0)).astype(np.float32)


def similar_items_graph(arrays: Arrays, top_k: int) -> ir.Model:
    """The graph of design "similar_items". An item is no neighbour of its own.

    Inputs: `item_index` int64 [B].
    Outputs: `top_item_indices` int64 [B, K]; `top_scores` float32 [B, K], cosines from -1 to 1.
    """
    graph = begin("similar_items")
    op = graph.op
    item_index = graph.input("item_index", ir.DataType.INT64, ["B"])
    directions = table(graph, "item_directions", item_directions(arrays.item_factors))
    cosines = op.Gemm(op.Gather(directions, item_index), directions, transB=1)
    indices, scores = rank(op, cosines, op.Unsqueeze(item_index, [1]), top_k)
    return finish(
        graph,
        [
            ("top_item_indices", indices, ir.DataType.INT64, ["B", top_k]),
            ("top_scores", scores, ir.DataType.FLOAT, ["B", top_k]),
        ],
    )
