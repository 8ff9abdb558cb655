"""`similar_items.onnx`: items in, their K nearest neighbours out, by the shrunk cosine."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import torch

from export.graphs.build import begin, finish, rank
from export.graphs.recommend import TOP
from export.graphs.spec import Comparison, GraphSpec, Runner, TensorSpec
from export.model import reference
from export.model.arrays import Float32, table
from export.model.inputs import ExportInputs, Sample
from export.model.similar_items import directions, similar_rows
from export.verify.compare_lists import check_lists
from recsys.models.modules import DotProduct
from serve.bundle.conformance import Case

INPUTS = (TensorSpec("item_index", "int64", ("B",)),)
# Cosines are float32 sums of products, and at most 1: their rounding errors stay far below this.
COSINE_TOLERANCE = 1e-5


def similar_items_graph(directions: Float32, support: Float32, top_k: int) -> ir.Model:
    """Ranks the `top_k` nearest neighbours of each item without the item.

    Args:
        directions: rows of length 1, float32 [n_items + 1, F].
        support: what the cosines to an item are multiplied by, 0 to 1, float32 [n_items + 1].
        top_k: K.
    """
    graph, (item_index,) = begin("similar_items", INPUTS)
    op = graph.op
    rows = table(graph, "item_directions", directions)
    cosines = op.Gemm(op.Gather(rows, item_index), rows, transB=1)
    shrunk = op.Mul(cosines, op.Reshape(table(graph, "item_support", support[:, None]), [1, -1]))
    return finish(graph, TOP, rank(op, shrunk, op.Unsqueeze(item_index, [1]), top_k), {"K": top_k})


def _build(inputs: ExportInputs) -> ir.Model:
    unit = directions(similar_rows(inputs.lists))
    return similar_items_graph(unit, inputs.item_support, inputs.top_k)


def _cases(inputs: ExportInputs) -> list[Case]:
    items = np.append(inputs.example_items, 0)
    cosines = reference.cosines(similar_rows(inputs.lists), items) * inputs.item_support
    indices, scores = reference.top_k(cosines, items[:, None], inputs.top_k)
    return [Case.of({"item_index": items}, {"top_item_indices": indices, "top_scores": scores})]


def _check(run: Runner, inputs: ExportInputs, sample: Sample) -> Comparison:
    found = run("similar_items", {"item_index": sample.items})
    module = inputs.ranking_module or inputs.module
    rows = module.get_parameter("item_factors").detach().double()
    if isinstance(module, DotProduct):
        users = module.user_factors[1:].detach().double()
        # With U - mean = Q R, the centred scores are Q R V', and R V' has their values and right vectors.
        root = torch.linalg.qr(users - users.mean(dim=0), mode="r").R
        left, values, _ = torch.linalg.svd(rows @ root.T, full_matrices=False)
        rows = left * values.sqrt()
    # cosine_similarity would broadcast to [sample, n_items, n_factors]: 20 GB at 300,000 items.
    unit = torch.nn.functional.normalize(rows)
    truth = (unit[torch.from_numpy(sample.items)] @ unit.T).numpy() * inputs.item_support.astype(np.float64)
    return check_lists(truth, sample.items[:, None], found, inputs.top_k, COSINE_TOLERANCE)


SPEC = GraphSpec(
    name="similar_items",
    inputs=INPUTS,
    outputs=TOP,
    build=_build,
    cases=_cases,
    check=_check,
    tolerance=lambda inputs: {"top_scores": COSINE_TOLERANCE},
)
