"""`recommend_fast.onnx`: the lists of `recommend.onnx` over large catalogues, in half of the time.

One query over a large catalogue takes as long as reading the item table does. This graph reads a copy of 4
bits a number, ranks by it `CANDIDATES` items, and ranks these again by their exact rows. What is listed has
its exact score; an item is missed where rounding throws it out of the candidates.

Optional (`recsys export --fast`): the `MatMulNBits` of the domain com.microsoft is in ONNX Runtime only.
"""

from __future__ import annotations

from dataclasses import replace

import onnx_ir as ir

from export.graphs import recommend
from export.graphs.build import begin, finish, rank
from export.graphs.compare_lists import check_lists
from export.graphs.recommend import INPUTS, RATED_TOP, ratings_of
from export.graphs.spec import Comparison, GraphSpec, Runner
from export.model.arrays import Arrays, table, to_range
from export.model.dot import DotArrays
from export.model.inputs import ExportInputs, Sample
from export.model.quantised import block_size, int4_rows
from export.model.reference import MASKED
from export.model.side_by_side import SideBySide
from recsys.errors import ConfigError
from serve.bundle.conformance import Case

DOMAIN, DOMAIN_VERSION = "com.microsoft", 1
INT8_PRODUCTS = 4
"""`accuracy_level` with which the kernel rounds the user's row to 8 bits: the others are slower than Gemm."""
CANDIDATES = 128
LARGEST_K = 32
"""A quarter of the candidates: rounding seldom moves an item of the list below four times its length."""
# Share of the span by which a list may miss the exact score at a rank. Where rounding throws an item out,
# the next one takes its place.
TOLERANCE = 1e-2


def recommend_fast_graph(lists: Arrays, top_k: int, ratings: Arrays | None = None) -> ir.Model:
    """As `recommend_graph`, by way of the candidates. Raises ConfigError: `lists` is no product of tables."""
    dot = _product(lists)
    graph, (user_index, exclude) = begin("recommend_fast", INPUTS)
    graph.graph.opset_imports[DOMAIN] = DOMAIN_VERSION
    op = graph.op
    rows = dot.user_rows(graph, user_index)
    n, n_factors = dot.item_factors.shape
    codes, scales = int4_rows(dot.item_factors)
    rounded = graph.opset(DOMAIN, DOMAIN_VERSION).MatMulNBits(
        rows["user_factors"],
        table(graph, f"{dot.prefix}item_factors_int4", codes),
        table(graph, f"{dot.prefix}item_factors_scales", scales),
        K=n_factors,
        N=n,
        bits=4,
        block_size=block_size(n_factors),
        accuracy_level=INT8_PRODUCTS,
    )
    rounded.type, rounded.shape = ir.TensorType(ir.DataType.FLOAT), ir.Shape(["B", n])
    if dot.item_biases is not None:
        biases = table(graph, f"{dot.prefix}item_biases", dot.item_biases)
        rounded = op.Add(rounded, op.Reshape(biases, [1, -1]))
    n_candidates = min(CANDIDATES, dot.n_items)
    found = rank(op, rounded, exclude, n_candidates)["top_item_indices"]
    # By rising index, so that of equal scores the lower index comes first.
    candidates, _ = op.TopK(found, [n_candidates], axis=-1, largest=0, sorted=1, _outputs=2)
    exact = replace(dot, y_range=None).row_scores(graph, rows, candidates)
    exact = op.Where(op.Greater(candidates, 0), exact, MASKED)
    values, places = op.TopK(exact, [top_k], axis=-1, largest=1, sorted=1, _outputs=2)
    left = op.Greater(values, MASKED / 10)
    top = {
        "top_item_indices": op.GatherElements(candidates, places, axis=1),
        "top_scores": op.Where(left, to_range(op, values, dot.y_range), MASKED),
    }
    if ratings is not None:
        top |= recommend.rated(graph, ratings, ratings.user_rows(graph, user_index), top)
    return finish(graph, RATED_TOP, top, {"K": top_k})


def _product(lists: Arrays) -> DotArrays:
    dot = lists.dot if isinstance(lists, SideBySide) else lists
    if not isinstance(dot, DotArrays):
        raise ConfigError(
            "an mlp orders the lists, and recommend_fast.onnx needs a product: leave --fast out"
        )
    return dot


def _top_k(inputs: ExportInputs) -> int:
    return min(inputs.top_k, LARGEST_K)


def _tolerance(inputs: ExportInputs) -> dict[str, float]:
    return recommend.tolerance(inputs) | {"top_scores": TOLERANCE * inputs.list_span}


def _cases(inputs: ExportInputs) -> list[Case]:
    return recommend.cases(replace(inputs, top_k=_top_k(inputs)))


def _check(run: Runner, inputs: ExportInputs, sample: Sample) -> Comparison:
    """Compare lists with torch's; `list_agreement` is the share of ranks with the exact score there."""
    feeds = {"user_index": sample.users, "exclude_item_indices": sample.exclude}
    found = run("recommend_fast", feeds)
    truth, top_k = inputs.torch_list_scores(sample.users, found["top_item_indices"]), _top_k(inputs)
    allowed = recommend.tolerance(inputs)["top_scores"]
    exact = check_lists(truth, sample.exclude, found, top_k, allowed)
    return exact._replace(tolerance=_tolerance(inputs)["top_scores"])


SPEC = GraphSpec(
    name="recommend_fast",
    inputs=INPUTS,
    outputs=RATED_TOP,
    applies=lambda inputs: inputs.fast,
    build=lambda inputs: recommend_fast_graph(inputs.lists, _top_k(inputs), ratings_of(inputs)),
    cases=_cases,
    check=_check,
    tolerance=_tolerance,
    top_k=_top_k,
    cpu_only=True,
    onnxruntime_only=True,
)
