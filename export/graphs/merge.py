"""`merge.onnx`: the lists of all shards side by side in, the list of `recommend.onnx` out; optional.

Shards list by what orders items and nothing else. What changes no order comes last, as in `recommend.onnx`,
where the same operators see the same numbers: the user's bias, then the range.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from export.graphs import recommend, shard
from export.graphs.build import begin, finish
from export.graphs.recommend import RATED_TOP
from export.graphs.spec import Comparison, GraphSpec, Named, Runner, TensorSpec
from export.model.arrays import Arrays, table, to_range
from export.model.dot import DotArrays
from export.model.inputs import ExportInputs, Sample
from export.model.reference import MASKED
from serve.bundle.conformance import Case
from serve.bundle.shards import MERGE, shard_name

INPUTS = (
    TensorSpec("user_index", "int64", ("B",)),
    TensorSpec("shard_item_indices", "int64", ("B", "M")),
    TensorSpec("shard_scores", "float32", ("B", "M")),
    TensorSpec("shard_ratings", "float32", ("B", "M"), optional=True),
)
OUTPUT_OF = {
    "shard_item_indices": "top_item_indices",
    "shard_scores": "top_scores",
    "shard_ratings": "top_ratings",
}
"""Input -> the output of the shards that it takes."""


def merge_graph(lists: Arrays, top_k: int, width: int, *, has_ratings: bool = False) -> ir.Model:
    """Takes the `top_k` best of `width` listed items; equal scores in order of their places."""
    inputs = [tensor for tensor in INPUTS if has_ratings or not tensor.optional]
    graph, (user_index, indices, scores, *ratings) = begin(MERGE, inputs, sizes={"M": width})
    op = graph.op
    values, places = op.TopK(scores, [top_k], axis=-1, largest=1, sorted=1, _outputs=2)
    left = op.Greater(values, MASKED / 10)
    # Not GatherElements: the one of onnx.reference fails beyond 64 columns.
    places = op.Unsqueeze(places, [2])
    if isinstance(lists, DotArrays) and lists.user_biases is not None:
        biases = table(graph, f"{lists.prefix}user_biases", lists.user_biases)
        values = op.Add(values, op.Gather(biases, user_index))
    top = {
        "top_item_indices": op.GatherND(indices, places, batch_dims=1),
        "top_scores": op.Where(left, to_range(op, values, lists.y_range), MASKED),
    }
    if ratings:
        top["top_ratings"] = op.GatherND(ratings[0], places, batch_dims=1)
    return finish(graph, RATED_TOP, top, {"K": top_k})


def _build(inputs: ExportInputs) -> ir.Model:
    width = sum(shard.top_k(number, inputs) for number in range(inputs.n_shards))
    return merge_graph(inputs.lists, inputs.top_k, width, has_ratings=inputs.rates_lists)


def side_by_side(tops: list[Named]) -> Named:
    """The outputs of all shards, in their order, as the inputs of `merge` but for the users."""
    return {
        name: np.concatenate([top[output] for top in tops], axis=1)
        for name, output in OUTPUT_OF.items()
        if output in tops[0]
    }


def _cases(inputs: ExportInputs) -> list[Case]:
    """Those of `recommend`, from the shards' lists in float64."""
    cases = []
    for case in recommend.cases(inputs):
        feeds, right = case.arrays()
        users, exclude = feeds["user_index"], feeds["exclude_item_indices"]
        tops = [shard.shard_lists64(number, inputs, users, exclude) for number in range(inputs.n_shards)]
        cases.append(Case.of({"user_index": users, **side_by_side(tops)}, right))
    return cases


def _check(run: Runner, inputs: ExportInputs, sample: Sample) -> Comparison:
    """Compare what the shards and this graph make together with torch."""
    users = sample.users
    feeds = {"user_index": users, "exclude_item_indices": sample.exclude}
    tops = [run(shard_name(number), feeds) for number in range(inputs.n_shards)]
    found = run(MERGE, {"user_index": users, **side_by_side(tops)})
    return recommend.check_rated(found, inputs, users, sample.exclude)


SPEC = GraphSpec(
    name=MERGE,
    inputs=INPUTS,
    outputs=RATED_TOP,
    applies=lambda inputs: inputs.n_shards > 0,
    build=_build,
    cases=_cases,
    check=_check,
    tolerance=recommend.tolerance,
)
