"""`recommend.onnx`: users in, their K best items out; the whole retrieval in one graph."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
from onnxscript import GraphBuilder

from export.graphs.build import begin, finish, rank
from export.graphs.spec import SCORE_TOLERANCE, Comparison, GraphSpec, Runner, TensorSpec
from export.model import reference
from export.model.arrays import Arrays, Int64
from export.model.inputs import ExportInputs, Sample
from export.verify.compare_lists import check_lists
from serve.bundle.conformance import Case
from serve.runtime.validation import padded

INPUTS = (TensorSpec("user_index", "int64", ("B",)), TensorSpec("exclude_item_indices", "int64", ("B", "E")))
TOP = (TensorSpec("top_item_indices", "int64", ("B", "K")), TensorSpec("top_scores", "float32", ("B", "K")))


def recommend_graph(arrays: Arrays, top_k: int) -> ir.Model:
    """Ranks `top_k` items for each user, without the excluded ones (0-padded)."""
    graph, (user_index, exclude) = begin("recommend", INPUTS)
    return finish(graph, TOP, best_items(graph, arrays, user_index, exclude, top_k), {"K": top_k})


def best_items(
    graph: GraphBuilder, arrays: Arrays, user_index: ir.Value, exclude: ir.Value, top_k: int
) -> dict[str, ir.Value]:
    """The K best items of each user (int64 [B]) without the excluded ones (int64 [B, E]), as from `rank`."""
    logits, row_bias = arrays.logits(graph, user_index)
    return rank(graph.op, logits, exclude, top_k, row_bias, arrays.y_range)


def cases(inputs: ExportInputs) -> list[Case]:
    """Some users without what they have rated, the average user; and one user with nothing excluded."""
    users = inputs.example_users
    rated = [inputs.example_history(user).item_indices for user in users]
    exclude = padded([*rated, np.array([], int)], np.int64)
    return [
        _case(inputs, np.append(users, 0), exclude),
        _case(inputs, users[:1], np.zeros((1, 1), np.int64)),
    ]


def _case(inputs: ExportInputs, users: Int64, exclude: Int64) -> Case:
    indices, scores = reference.top_k(inputs.arrays.scores64(users), exclude, inputs.top_k)
    return Case.of(
        {"user_index": users, "exclude_item_indices": exclude},
        {"top_item_indices": indices, "top_scores": scores},
    )


def tolerance(inputs: ExportInputs) -> dict[str, float]:
    """The tolerance of scores, a share of their span."""
    return {"top_scores": SCORE_TOLERANCE * inputs.score_span}


def _check(run: Runner, inputs: ExportInputs, sample: Sample) -> Comparison:
    found = run("recommend", {"user_index": sample.users, "exclude_item_indices": sample.exclude})
    truth = inputs.torch_scores(sample.users)
    return check_lists(truth, sample.exclude, found, inputs.top_k, tolerance(inputs)["top_scores"])


SPEC = GraphSpec(
    name="recommend",
    inputs=INPUTS,
    outputs=TOP,
    build=lambda inputs: recommend_graph(inputs.arrays, inputs.top_k),
    cases=cases,
    check=_check,
    tolerance=tolerance,
)
