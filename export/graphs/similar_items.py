"""`similar_items.onnx`: items in, their K nearest neighbours by cosine out."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import torch

from export.graphs.build import begin, finish, rank
from export.graphs.recommend import TOP
from export.graphs.spec import Comparison, GraphSpec, Runner, TensorSpec
from export.model import reference
from export.model.arrays import Arrays, Float32, table
from export.model.inputs import ExportInputs, Sample
from export.verify.compare_lists import check_lists
from serve.bundle.conformance import Case

INPUTS = (TensorSpec("item_index", "int64", ("B",)),)
# Cosines are float32 sums of products, and at most 1: their rounding errors stay far below this.
COSINE_TOLERANCE = 1e-5


def item_directions(item_factors: Float32) -> Float32:
    """Rows scaled to length 1, float32 [n_items + 1, F]; a row of zeros stays zeros (cosine 0 to all)."""
    factors = item_factors.astype(np.float64)
    lengths = np.linalg.norm(factors, axis=1, keepdims=True)
    return (factors / np.where(lengths > 0, lengths, 1.0)).astype(np.float32)


def similar_items_graph(arrays: Arrays, top_k: int) -> ir.Model:
    """Ranks the `top_k` nearest neighbours of each item without the item; scores are cosines, -1 to 1."""
    graph, (item_index,) = begin("similar_items", INPUTS)
    op = graph.op
    directions = table(graph, "item_directions", item_directions(arrays.item_factors))
    cosines = op.Gemm(op.Gather(directions, item_index), directions, transB=1)
    return finish(graph, TOP, rank(op, cosines, op.Unsqueeze(item_index, [1]), top_k), {"K": top_k})


def _cases(inputs: ExportInputs) -> list[Case]:
    items = np.append(inputs.example_items, 0)
    cosines = reference.cosines(inputs.lists.item_factors, items)
    indices, scores = reference.top_k(cosines, items[:, None], inputs.top_k)
    return [Case.of({"item_index": items}, {"top_item_indices": indices, "top_scores": scores})]


def _check(run: Runner, inputs: ExportInputs, sample: Sample) -> Comparison:
    found = run("similar_items", {"item_index": sample.items})
    # cosine_similarity would broadcast to [sample, n_items, n_factors]: 20 GB at 300,000 items.
    factors = (inputs.ranking_module or inputs.module).get_parameter("item_factors").detach().double()
    directions = torch.nn.functional.normalize(factors)
    truth = (directions[torch.from_numpy(sample.items)] @ directions.T).numpy()
    return check_lists(truth, sample.items[:, None], found, inputs.top_k, COSINE_TOLERANCE)


SPEC = GraphSpec(
    name="similar_items",
    inputs=INPUTS,
    outputs=TOP,
    build=lambda inputs: similar_items_graph(inputs.lists, inputs.top_k),
    cases=_cases,
    check=_check,
    tolerance=lambda inputs: {"top_scores": COSINE_TOLERANCE},
)
