"""What each rating of a new user adds to the score of an item, in float64 and as ONNX nodes.

A closed form of `fold_in.onnx` is linear in what the ratings say, with the rated items fixed: the row of a
new user is what everybody has plus one term for each rating. The product with an item's row splits likewise:

    logit of an item = rest + sum of the contributions of the ratings.

The rest belongs to no rating: the share of the average user or of the prior, and the item's bias. (So does
implicit's `explain`; Hu, Koren and Volinsky 2008, section 5.) Where a sigmoid follows, contributions are
multiplied by (score - score of the rest) / (logit - rest), so that their sum and the rest is the score.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import onnx_ir as ir
from onnxscript import GraphBuilder

from export.model.arrays import Float32, Float64, Int64, table, to_range
from export.model.dot import AVERAGE, DotArrays
from export.model.inputs import ExportInputs
from export.model.score_range import to_range as to_range64
from export.model.side_by_side import PartColumns

# Below this difference of logits, 1 - exp(-d) has too few digits, and four terms of its series are exact.
SMALL = 0.05


class Contributions(NamedTuple):
    """One user's."""

    contributions: Float64
    """[E, H], 0 where padded"""
    rest: Float64
    """[E]"""


class Nodes(NamedTuple):
    """The same of B users, as ONNX nodes."""

    contributions: ir.Value
    """float32 [B, E, H]"""
    rest: ir.Value
    """float32 [B, E]"""


def can_explain(inputs: ExportInputs) -> bool:
    """Whether new users' scores are such sums: everywhere but in an MLP, where there is a fold-in at all."""
    if inputs.ranking is not None:
        return inputs.list_fold_in is not None
    return inputs.fold_in is not None and isinstance(inputs.arrays, DotArrays)


def contributions64(
    inputs: ExportInputs, item_indices: Int64, ratings: Float32, explained: Int64
) -> Contributions:
    """Items int64 [H], 0-padded, ratings float32 [H], and the items to explain, int64 [E]."""
    if inputs.ranking is not None:
        return _of_parts64(inputs, item_indices, ratings, explained)
    arrays, settings = _product(inputs), inputs.fold_in
    assert settings is not None
    rows = arrays.item_rows64(explained)
    shares = arrays.shares64(item_indices, ratings, arrays.ridge(settings), rows)
    rest = rows @ arrays.rows64(AVERAGE)[0] + _biases64(arrays, explained)
    return _in_range64(shares, rest, arrays.y_range)


def contributions(
    graph: GraphBuilder, inputs: ExportInputs, item_indices: ir.Value, ratings: ir.Value, explained: ir.Value
) -> Nodes:
    """`contributions64` as nodes: int64 [B, H], float32 [B, H] and int64 [B, E]."""
    assert inputs.explain is not None
    op, steps = graph.op, inputs.explain.steps
    if inputs.ranking is not None:
        return _of_parts(graph, inputs, item_indices, ratings, explained)
    arrays, settings = _product(inputs), inputs.fold_in
    assert settings is not None
    rows = arrays.item_rows(graph, explained)  # [B, E, row]
    shares = arrays.shares(graph, item_indices, ratings, settings, rows, steps)
    average = table(graph, "average_user", arrays.rows64(AVERAGE).astype(np.float32))
    rest = op.Squeeze(op.MatMul(rows, op.Transpose(average, perm=[1, 0])), [2])
    return _in_range(op, Nodes(shares, _with_biases(graph, arrays, rest, explained)), arrays.y_range)


def _product(inputs: ExportInputs) -> DotArrays:
    assert isinstance(inputs.arrays, DotArrays)
    return inputs.arrays


def _biases64(arrays: DotArrays, items: Int64) -> Float64 | float:
    return 0.0 if arrays.item_biases is None else arrays.item_biases[items, 0].astype(np.float64)


def _with_biases(graph: GraphBuilder, arrays: DotArrays, rest: ir.Value, items: ir.Value) -> ir.Value:
    """`rest` float32 [B, E] plus the biases of the items, int64 [B, E], if they have some."""
    op = graph.op
    if arrays.item_biases is None:
        return rest
    biases = table(graph, f"{arrays.prefix}item_biases", arrays.item_biases)
    total: ir.Value = op.Add(rest, op.Squeeze(op.Gather(biases, items), [2]))
    return total


def _in_range64(shares: Float64, rest: Float64, y_range: tuple[float, float] | None) -> Contributions:
    """Shares [E, H] and rest [E] of logits as those of scores."""
    if y_range is None:
        return Contributions(shares, rest)
    logits = rest + shares.sum(axis=1)
    low, high = to_range64(rest, y_range), to_range64(logits, y_range)
    apart = np.abs(logits - rest) > 1e-9
    middle = (high - y_range[0]) * (y_range[1] - high) / (y_range[1] - y_range[0])  # the slope there
    slopes = np.where(apart, (high - low) / np.where(apart, logits - rest, 1.0), middle)
    return Contributions(shares * slopes[:, None], low)


def _in_range(op: Any, of_logits: Nodes, y_range: tuple[float, float] | None) -> Nodes:
    """`_in_range64` as nodes.

    With a > b the two logits and d = a - b, sigmoid(a) - sigmoid(b) = sigmoid(a) sigmoid(-b) (1 - exp(-d)),
    without a difference of two almost equal numbers.
    """
    if y_range is None:
        return of_logits
    shares, rest = of_logits
    logits = op.Add(rest, op.ReduceSum(shares, [2], keepdims=0))
    larger, smaller = op.Max(logits, rest), op.Min(logits, rest)
    d = op.Sub(larger, smaller)
    series = op.Sub(1.0, op.Mul(d, op.Sub(0.5, op.Mul(d, op.Sub(1 / 6, op.Mul(d, 1 / 24))))))
    far = op.Max(d, SMALL)
    falls = op.Where(op.Less(d, SMALL), series, op.Div(op.Sub(1.0, op.Exp(op.Neg(far))), far))
    both = op.Mul(op.Sigmoid(larger), op.Sigmoid(op.Neg(smaller)))
    slopes = op.Mul(op.Mul(both, falls), y_range[1] - y_range[0])  # [B, E]
    return Nodes(op.Mul(shares, op.Unsqueeze(slopes, [2])), to_range(op, rest, y_range))


def _of_parts64(
    inputs: ExportInputs, item_indices: Int64, ratings: Float32, explained: Int64
) -> Contributions:
    """`contributions64` where parts that rank order the lists."""
    ranking, settings = inputs.ranking, inputs.list_fold_in
    assert ranking is not None
    assert settings is not None
    items = ranking.dot.item_factors[explained].astype(np.float64)
    n = int(np.count_nonzero(item_indices))
    share = settings.prior_ratings / (settings.prior_ratings + n) if n else 1.0
    rest = share * (items @ ranking.prior64(settings)) + _biases64(ranking.dot, explained)
    shares = np.zeros((len(explained), len(item_indices)))
    if not n:
        return Contributions(shares, rest)
    average = ranking.dot.rows64(AVERAGE)[0]
    for number, part in enumerate(ranking.parts):
        columns = ranking.columns(number)
        rows = items[:, columns]
        if part.solver is not None:
            shares += part.factor * part.solver.shares64(item_indices, ratings, rows)
            always = part.factor * part.solver.offset64
        elif _is_folded(part, inputs):
            arrays = _product(inputs)
            assert inputs.fold_in is not None
            wide = np.zeros((len(rows), arrays.rows64(AVERAGE).shape[1]))  # and 0 for the user's bias
            wide[:, : part.width] = rows
            of_ratings = arrays.shares64(item_indices, ratings, arrays.ridge(inputs.fold_in), wide)
            shares += part.factor * of_ratings
            always = part.factor * arrays.rows64(AVERAGE)[0, : part.width]
        else:
            always = average[columns]
        rest = rest + (rows * always).sum(axis=1)
    return Contributions(shares, rest)


def _of_parts(
    graph: GraphBuilder, inputs: ExportInputs, item_indices: ir.Value, ratings: ir.Value, explained: ir.Value
) -> Nodes:
    """`_of_parts64` as nodes."""
    ranking, settings, explain = inputs.ranking, inputs.list_fold_in, inputs.explain
    assert ranking is not None
    assert settings is not None
    assert explain is not None
    op = graph.op
    dot = ranking.dot
    items = op.Gather(table(graph, f"{dot.prefix}item_factors", dot.item_factors), explained)  # [B, E, F]
    always = np.zeros(dot.item_factors.shape[1])  # what a user with ratings has besides the prior
    average, shares = dot.rows64(AVERAGE)[0], None
    for number, part in enumerate(ranking.parts):
        columns = ranking.columns(number)
        rows = op.Slice(items, [columns.start], [columns.stop], [2])
        if part.solver is not None:
            found = part.solver.shares(graph, item_indices, ratings, rows, settings.n_items, explain.steps)
            always[columns] = part.factor * part.solver.offset64
        elif _is_folded(part, inputs):
            arrays = _product(inputs)
            assert inputs.fold_in is not None
            if arrays.user_biases is not None:
                rows = op.Concat(rows, op.Mul(op.Slice(rows, [0], [1], [2]), 0.0), axis=2)
            found = arrays.shares(graph, item_indices, ratings, inputs.fold_in, rows, explain.steps)
            always[columns] = part.factor * arrays.rows64(AVERAGE)[0, : part.width]
        else:
            always[columns] = average[columns]
            continue
        found = op.Mul(found, part.factor)
        shares = found if shares is None else op.Add(shares, found)
    assert shares is not None  # one part has a closed form, or there is no fold-in
    n = op.ReduceSum(op.Cast(op.Greater(item_indices, 0), to=ir.DataType.FLOAT), [1], keepdims=1)  # [B, 1]
    rated = op.Greater(n, 0.0)
    prior_ratings = settings.prior_ratings
    share = op.Where(rated, op.Div(prior_ratings, op.Add(n, prior_ratings + 1e-30)), 1.0)

    def products(name: str, row: Float64) -> ir.Value:
        column = table(graph, name, row[:, None].astype(np.float32))  # [F, 1]
        product: ir.Value = op.Squeeze(op.MatMul(items, column), [2])  # [B, E]
        return product

    rest = op.Mul(share, products("explain_prior", ranking.prior64(settings)))
    if always.any():
        rest = op.Add(rest, op.Where(rated, products("explain_always", always), 0.0))
    return Nodes(shares, _with_biases(graph, dot, rest, explained))


def _is_folded(part: PartColumns, inputs: ExportInputs) -> bool:
    """Whether a part's columns are those of the new user's row that predicts ratings."""
    return part.predicts_ratings and inputs.fold_in is not None
