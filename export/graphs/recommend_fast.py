"""`recommend_fast.onnx`: the lists of `recommend.onnx` over large catalogues, in a fraction of the time.

One query over a large catalogue takes as long as reading the item table does. This graph reads a copy of 8
or 4 bits a number, takes the blocks of neighbouring items with the highest scores by it, and ranks the items
of these by their exact rows. What is listed has its exact score; an item is missed where rounding throws its
block out.

Optional (`recsys export --fast`): the `MatMulNBits` of the domain com.microsoft is in ONNX Runtime only.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx_ir as ir
from onnxscript import GraphBuilder

from export.graphs import recommend
from export.graphs.build import begin, finish
from export.graphs.compare_lists import check_lists
from export.graphs.recommend import INPUTS, RATED_TOP, ratings_of
from export.graphs.spec import Comparison, GraphSpec, Runner
from export.model.arrays import Arrays, table, to_range
from export.model.dot import DotArrays
from export.model.inputs import ExportInputs, Sample
from export.model.quantised import block_size, int4_rows, int8_columns
from export.model.reference import MASKED
from export.model.side_by_side import SideBySide
from recsys.errors import ConfigError
from serve.bundle.conformance import Case

DOMAIN, DOMAIN_VERSION = "com.microsoft", 1
INT8_PRODUCTS = 4
"""`accuracy_level` with which the kernel rounds the user's row to 8 bits: the others are slower than Gemm."""
LARGEST_INT8_TABLE = 1 << 24
"""Numbers of a table up to which 8 bits are faster than 4. A larger one is read from memory, not from a
cache, and then its bytes count."""
BLOCK = 8
"""Neighbouring items that are candidates together."""
INT8_BLOCKS, INT4_BLOCKS = 64, 128
"""How many blocks are candidates: those of as many best items by rounded scores, or more."""
LARGEST_K = 32
"""Half of the blocks, a quarter with 4 bits: rounding seldom moves an item of the list further down."""
# Share of the span by which a list may miss the exact score at a rank. Where rounding throws an item out,
# the next one takes its place.
TOLERANCE = 1e-2


def recommend_fast_graph(lists: Arrays, top_k: int, ratings: Arrays | None = None) -> ir.Model:
    """As `recommend_graph`, by way of the candidates. Raises ConfigError: `lists` is no product of tables."""
    dot = _product(lists)
    graph, (user_index, exclude) = begin("recommend_fast", INPUTS)
    op = graph.op
    rows = dot.user_rows(graph, user_index)
    candidates, is_left = _candidates(graph, dot, rows["user_factors"], exclude)  # [B, C], by rising index
    exact = replace(dot, y_range=None).row_scores(graph, rows, candidates)
    exact = op.Where(is_left, exact, MASKED)
    values, places = op.TopK(exact, [top_k], axis=-1, largest=1, sorted=1, _outputs=2)
    left = op.Greater(values, MASKED / 10)
    top = {
        "top_item_indices": op.GatherElements(candidates, places, axis=1),
        "top_scores": op.Where(left, to_range(op, values, dot.y_range), MASKED),
    }
    if ratings is not None:
        top |= recommend.rated(graph, ratings, ratings.user_rows(graph, user_index), top)
    return finish(graph, RATED_TOP, top, {"K": top_k})


def _candidates(
    graph: GraphBuilder, dot: DotArrays, users: ir.Value, exclude: ir.Value
) -> tuple[ir.Value, ir.Value]:
    """The items of the best blocks by rounded scores, int64 [B, C] by rising index, 0 where one is left out.

    Also returns where none is: bool [B, C].
    """
    op = graph.op
    n_blocks = -(-len(dot.item_factors) // BLOCK)
    padding = range(len(dot.item_factors), n_blocks * BLOCK)
    if dot.item_factors.size <= LARGEST_INT8_TABLE:
        scan, n_chosen = _by_int8, min(INT8_BLOCKS, n_blocks)
    else:
        scan, n_chosen = _by_int4, min(INT4_BLOCKS, n_blocks)
    rounded, lowest = scan(graph, dot, users, n_blocks * BLOCK)
    # Column 0 is "unknown".
    more = op.Expand([0, *padding], op.Concat(op.Shape(exclude, start=0, end=1), [1], axis=0))
    left_out = op.Concat(exclude, more, axis=1)
    updates = op.Expand(lowest, op.Shape(left_out))
    rounded = op.ScatterElements(rounded, left_out, updates, axis=1)
    best = op.ReduceMax(op.Reshape(rounded, [-1, n_blocks, BLOCK]), [2], keepdims=0)
    _, chosen = op.TopK(best, [n_chosen], axis=-1, largest=1, sorted=1, _outputs=2)
    # By rising index, so that of equal scores the lower index comes first.
    chosen, _ = op.TopK(chosen, [n_chosen], axis=-1, largest=0, sorted=1, _outputs=2)
    firsts = op.Mul(op.Unsqueeze(chosen, [2]), BLOCK)
    items = op.Reshape(op.Add(firsts, list(range(BLOCK))), [-1, n_chosen * BLOCK])
    is_left = op.Greater(op.GatherElements(rounded, items, axis=1), lowest)
    return op.Where(is_left, items, 0), is_left


def _by_int8(graph: GraphBuilder, dot: DotArrays, users: ir.Value, n: int) -> tuple[ir.Value, ir.Value]:
    """Scores of `n` items in any unit, int32 [B, n], and a number below all of them."""
    op = graph.op
    codes, steps = int8_columns(dot.item_factors, dot.item_biases, n=n)
    if dot.item_biases is not None:
        ones = op.Add(op.Mul(op.Slice(users, [0], [1], [1]), 0.0), 1.0)
        users = op.Concat(users, ones, axis=1)
    # Rows of one length, as all users of a run share a step; their orders stay.
    scaled = op.LpNormalization(op.Mul(users, table(graph, f"{dot.prefix}item_steps", steps)), axis=1, p=2)
    user_codes, _, zero = op.DynamicQuantizeLinear(scaled, _outputs=3)
    rounded = op.MatMulInteger(user_codes, table(graph, f"{dot.prefix}item_codes", codes), zero)
    return rounded, table(graph, "lowest", np.array(-(2**31), np.int32))


def _by_int4(graph: GraphBuilder, dot: DotArrays, users: ir.Value, n: int) -> tuple[ir.Value, ir.Value]:
    """As `_by_int8`, float32."""
    op = graph.op
    graph.graph.opset_imports[DOMAIN] = DOMAIN_VERSION
    n_factors = dot.item_factors.shape[1]
    codes, scales = int4_rows(dot.item_factors, n)
    rounded = graph.opset(DOMAIN, DOMAIN_VERSION).MatMulNBits(
        users,
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
        padded = np.zeros((1, n), np.float32)
        padded[0, : len(dot.item_biases)] = dot.item_biases[:, 0]
        rounded = op.Add(rounded, table(graph, f"{dot.prefix}item_biases_padded", padded))
    return rounded, table(graph, "lowest", np.array(MASKED, np.float32))


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
