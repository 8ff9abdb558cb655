"""`similar_items.onnx`: items in, their K nearest neighbours out, by the shrunk cosine."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import onnx_ir as ir
import torch

from export.graphs.build import begin, finish, rank
from export.graphs.compare_lists import check_lists
from export.graphs.recommend import TOP
from export.graphs.spec import Comparison, GraphSpec, Runner, TensorSpec
from export.model import reference
from export.model.arrays import Float32, row_slices, table
from export.model.inputs import ExportInputs, Sample
from export.model.similar_items import similar_rows
from recsys.models.modules import DotProduct
from serve.bundle.conformance import Case

INPUTS = (TensorSpec("item_index", "int64", ("B",)),)
# Cosines are float32 sums of products, and at most 1: their rounding errors stay far below this.
COSINE_TOLERANCE = 1e-5
# Relative to the largest singular value: smaller ones are rounding.
SMALLEST = 1e-14


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
    return similar_items_graph(inputs.unit_rows, inputs.item_support, inputs.top_k)


def _cases(inputs: ExportInputs) -> list[Case]:
    items = np.append(inputs.example_items, 0)
    if inputs.item_directions is None:
        cosines = reference.cosines(similar_rows(inputs.lists), items)
    else:
        cosines = reference.products(inputs.item_directions, items)
    cosines = cosines * inputs.item_support
    indices, scores = reference.top_k(cosines, items[:, None], inputs.top_k)
    return [Case.of({"item_index": items}, {"top_item_indices": indices, "top_scores": scores})]


def _check(run: Runner, inputs: ExportInputs, sample: Sample) -> Comparison:
    found = run("similar_items", {"item_index": sample.items})
    if inputs.item_directions is not None:
        rounded = reference.products(inputs.item_directions, sample.items) * inputs.item_support
        return check_lists(rounded, sample.items[:, None], found, inputs.top_k, COSINE_TOLERANCE)
    module = inputs.ranking_module or inputs.module
    items = module.get_parameter("item_factors").detach()
    parts = list(row_slices(len(items)))
    turn = _turn(module, parts) if isinstance(module, DotProduct) else torch.eye(items.shape[1]).double()
    # cosine_similarity would broadcast to [sample, n_items, n_factors]: 20 GB at 300,000 items.
    asked = torch.nn.functional.normalize(items[torch.from_numpy(sample.items)].double() @ turn)
    truth = np.empty((len(asked), len(items)))
    for part in parts:
        truth[:, part] = (asked @ torch.nn.functional.normalize(items[part].double() @ turn).T).numpy()
    truth *= inputs.item_support
    return check_lists(truth, sample.items[:, None], found, inputs.top_k, COSINE_TOLERANCE)


def _turn(module: DotProduct, parts: Iterable[slice]) -> torch.Tensor:
    """What makes rows of `item_factors`, of which `parts` are all, those of Q S^(1/2): float64 [F, F].

    With U - mean = Q R, the centred scores are Q R V', and V R' has their values and left vectors. It is
    P T with T triangular, and T = L S W' has its values: L S^(1/2) = V R' W S^(-1/2), rotated by P.
    """
    users, items = module.user_factors[1:].detach(), module.item_factors.detach()
    mean = users.mean(dim=0, dtype=torch.float64)
    root = _triangle(users[part].double() - mean for part in row_slices(len(users))).T
    _, values, right = torch.linalg.svd(
        _triangle(items[part].double() @ root for part in parts), full_matrices=False
    )
    shrunk = torch.where(values > SMALLEST * values.max(), values.rsqrt(), 0.0)
    turn: torch.Tensor = root @ right.T * shrunk
    return turn


def _triangle(parts: Iterable[torch.Tensor]) -> torch.Tensor:
    """R of the QR decomposition of rows that come in parts, float64 [n, F] each: at most [F, F]."""
    found: torch.Tensor | None = None
    for part in parts:
        rows = part if found is None else torch.cat([found, part])
        found = torch.linalg.qr(rows, mode="r").R
    assert found is not None
    return found


SPEC = GraphSpec(
    name="similar_items",
    inputs=INPUTS,
    outputs=TOP,
    build=_build,
    cases=_cases,
    check=_check,
    tolerance=lambda inputs: {"top_scores": COSINE_TOLERANCE},
)
