"""`variety.onnx`: a list in another order: less alike, less obvious, or of more categories; optional.

It makes the choices of `serve.runtime.variety`, one place after the other: ONNX has loops, but not every
runtime has them, so that the P places are written out. Nothing is sorted: of equal candidates, the one with
the least rank by index is chosen.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import onnx_ir as ir
from onnxscript import GraphBuilder

from export.graphs.build import begin, finish
from export.graphs.spec import Comparison, GraphSpec, Named, Runner, TensorSpec
from export.model import reference
from export.model.arrays import Float32, Float64, Int64, table
from export.model.inputs import ExportInputs, Sample
from export.model.reference import MASKED
from serve.bundle.conformance import Case
from serve.runtime.item_facts import ItemCategories, log_popularity_of
from serve.runtime.validation import padded
from serve.runtime.variety import N_SPREAD, NO_SPREAD, Choices, ItemFacts, Variety

INPUTS = (
    TensorSpec("item_indices", "int64", ("B", "M")),
    TensorSpec("scores", "float32", ("B", "M")),
    TensorSpec("diversity", "float32", ("B",)),
    TensorSpec("surprise", "float32", ("B",)),
    TensorSpec("max_per_category", "int64", ("B",)),
)
"""M is the length of a list, baked in."""
OUTPUTS = (TensorSpec("places", "int64", ("B", "P")),)
LONGEST = 50
"""Places of a list, at most. Each has 19 nodes."""
# More items of a category than any list has; and what is more than any number of items.
NO_LIMIT, TAKEN = 1e9, 1e30
# How much less than the best choice another one may be worth, in standard deviations of the candidates.
VALUE_TOLERANCE = 1e-4
# What a cosine may be off by (`similar_items.COSINE_TOLERANCE`), so many times as much.
COSINES = 0.1
EXAMPLES = (
    Variety(diversity=0.5),
    Variety(surprise=0.5),
    Variety(surprise=-0.75),
    Variety(max_per_category=1),
    Variety(diversity=0.4, surprise=0.25, max_per_category=2),
)
# Lists that the cases are chosen from, and users whose lists are checked.
N_LISTS, N_CHECKED = 12, 20


def variety_graph(inputs: ExportInputs) -> ir.Model:
    """The P best places of a list, in their new order."""
    graph, (item_indices, scores, *weights) = begin("variety", INPUTS, sizes={"M": inputs.top_k})
    op = graph.op
    diversity, surprise, most = (op.Unsqueeze(one, [1, 2]) for one in weights)
    items = op.Unsqueeze(item_indices, [2])  # all that follows is [B, M, ...]
    is_left = op.Greater(items, 0)
    left = _Left(op, is_left, inputs.arrays.n_items, op.Transpose(items, perm=[0, 2, 1]))
    own = left.standard(op.Unsqueeze(scores, [2]))
    known = [
        left.standard(op.Unsqueeze(op.Gather(table(graph, name, one), item_indices), [2]))
        for name, one in _known(inputs).items()
    ]
    away = known[0] if len(known) == 1 else op.Mul(op.Add(*known), 0.5)
    mixed = op.Sub(op.Mul(op.Sub(1.0, op.Abs(surprise)), own), op.Mul(surprise, away))
    # Named as constants are: they are no tables of the model.
    places = np.arange(inputs.top_k)
    in_order = table(graph, "const_in_order", -places.astype(np.float32)[:, None])  # [M, 1]
    is_weighed = op.Greater(op.Max(diversity, op.Abs(surprise)), 0.0)
    relevance = op.Where(is_weighed, left.standard(mixed), in_order)
    found = _choices(graph, inputs, left, item_indices, relevance, diversity, most)
    chosen = op.ArgMax(op.Concat(*found, axis=2), axis=1, keepdims=0)  # [B, P]
    itself = table(graph, "const_places", places[None, : len(found)])
    has_item = op.Less(op.Cast(itself, to=ir.DataType.FLOAT), op.Squeeze(left.n, [2]))
    return finish(graph, OUTPUTS, {"places": op.Where(has_item, chosen, itself)}, {"P": len(found)})


class _Left:
    """The candidates, without the empty places of a list."""

    def __init__(self, op: Any, is_left: ir.Value, n_items: int, row: ir.Value) -> None:
        """`is_left` bool [B, M, 1], and the items int64 [B, 1, M]."""
        self._op = op
        self.has_item = is_left
        """bool [B, M, 1]"""
        self.ones = op.Cast(is_left, to=ir.DataType.FLOAT)
        """1 where there is an item: float32 [B, M, 1]"""
        self.n = op.ReduceSum(self.ones, [1], keepdims=1)
        """float32 [B, 1, 1]"""
        keys = op.Where(op.Greater(row, 0), row, n_items + 1)
        lower = op.Less(keys, op.Transpose(keys, perm=[0, 2, 1]))  # [B, M, M]
        self.order = op.ReduceSum(op.Cast(lower, to=ir.DataType.FLOAT), [2], keepdims=1)
        """How many have a lower index: float32 [B, M, 1]"""

    def standard(self, values: ir.Value) -> ir.Value:
        """See `serve.runtime.variety`: float32 [B, M, 1], whatever the values' size and distance from 0."""
        op = self._op
        n = op.Max(self.n, 1.0)
        top = op.ReduceMax(op.Where(self.has_item, values, MASKED), [1], keepdims=1)
        size = op.ReduceMax(op.Abs(op.Where(self.has_item, values, 0.0)), [1], keepdims=1)
        below = op.Where(self.has_item, op.Sub(values, top), 0.0)
        width = op.ReduceMax(op.Abs(below), [1], keepdims=1)
        below = op.Div(below, op.Where(op.Greater(width, 0.0), width, 1.0))
        mean = op.Div(op.ReduceSum(below, [1], keepdims=1), n)
        apart = op.Mul(op.Sub(below, mean), self.ones)
        deviation = op.Sqrt(op.Div(op.ReduceSum(op.Mul(apart, apart), [1], keepdims=1), n))
        is_spread = op.Greater(op.Mul(deviation, width), op.Mul(size, NO_SPREAD))
        result: ir.Value = op.Where(is_spread, op.Div(apart, op.Where(is_spread, deviation, 1.0)), 0.0)
        return result

    def spread(self, cosines: ir.Value, top_k: int) -> ir.Value:
        """One over the standard deviation of the cosines of pairs: [B, M, M] -> float32 [B, 1, 1], or 0."""
        op, counted = self._op, self.ones
        if top_k > N_SPREAD:
            first = op.Less(self.order, float(N_SPREAD))
            counted = op.Mul(counted, op.Cast(first, to=ir.DataType.FLOAT))
        across = [op.Transpose(one, perm=[0, 2, 1]) for one in (counted, self.order)]
        same = op.Cast(op.Equal(self.order, across[1]), to=ir.DataType.FLOAT)
        pairs = op.Mul(op.Mul(counted, across[0]), op.Sub(1.0, same))
        n = op.Max(op.ReduceSum(pairs, [1, 2], keepdims=1), 1.0)
        mean = op.Div(op.ReduceSum(op.Mul(pairs, cosines), [1, 2], keepdims=1), n)
        apart = op.Mul(pairs, op.Sub(cosines, mean))
        deviation = op.Sqrt(op.Div(op.ReduceSum(op.Mul(apart, apart), [1, 2], keepdims=1), n))
        is_spread = op.Greater(deviation, NO_SPREAD)
        result: ir.Value = op.Where(is_spread, op.Div(1.0, op.Where(is_spread, deviation, 1.0)), 0.0)
        return result


def _choices(
    graph: GraphBuilder,
    inputs: ExportInputs,
    left: _Left,
    item_indices: ir.Value,
    relevance: ir.Value,
    diversity: ir.Value,
    most: ir.Value,
) -> list[ir.Value]:
    """For each of the P places, 1 at who is chosen: float32 [B, M, 1]."""
    op = graph.op
    rows = op.Gather(table(graph, "item_directions", inputs.unit_rows), item_indices)  # [B, M, F]
    cosines = op.MatMul(rows, op.Transpose(rows, perm=[0, 2, 1]))  # [B, M, M]
    alike = op.Mul(cosines, op.Mul(diversity, left.spread(cosines, inputs.top_k)))
    assert inputs.categories is not None
    member = op.Gather(table(graph, "item_categories", inputs.categories), item_indices)
    member = op.Cast(member, to=ir.DataType.FLOAT)  # [B, M, C]
    # Up to its limit, a category costs nothing: `floor` of those left is the limit less 1.
    limit = op.Where(op.Greater(most, 0), op.Cast(most, to=ir.DataType.FLOAT), NO_LIMIT)
    floor = op.Where(left.has_item, op.Sub(limit, 1.0), TAKEN)
    rest = op.Mul(relevance, op.Sub(1.0, diversity))
    found: list[ir.Value] = []
    counts = closest = None
    for _ in range(min(inputs.top_k, LONGEST)):
        cost = floor
        if counts is not None:
            cost = op.Max(floor, op.ReduceMax(op.Mul(member, counts), [2], keepdims=1))
        is_allowed = op.Equal(cost, op.ReduceMin(cost, [1], keepdims=1))
        value = relevance if closest is None else op.Sub(rest, closest)
        value = op.Where(is_allowed, value, MASKED)
        is_best = op.Equal(value, op.ReduceMax(value, [1], keepdims=1))
        first = op.ReduceMin(op.Where(is_best, left.order, TAKEN), [1], keepdims=1)
        is_chosen = op.Equal(left.order, first)
        floor = op.Where(is_chosen, TAKEN, floor)
        chosen = op.Cast(is_chosen, to=ir.DataType.FLOAT)
        found.append(chosen)
        of_chosen = op.ReduceSum(op.Mul(member, chosen), [1], keepdims=1)  # [B, 1, C]
        counts = of_chosen if counts is None else op.Add(counts, of_chosen)
        new = op.MatMul(alike, chosen)
        closest = new if closest is None else op.Max(closest, new)
    return found


def _known(inputs: ExportInputs) -> dict[str, Float32]:
    """How well known the items are, float32 [n_items + 1] each, as `serve.runtime.item_facts` has it."""
    popularity = log_popularity_of(inputs.item_support, inputs.similar.shrinkage)
    found = {"item_log_popularity": popularity.astype(np.float32)}
    if inputs.ranking is not None or inputs.ranking_module is None or inputs.scores == "ranking":
        found["item_average_score"] = inputs.lists.scores64(np.array([0]))[0].astype(np.float32)
    return found


def item_facts_of(inputs: ExportInputs) -> ItemFacts:
    """What `serve` finds in the bundle."""
    member = inputs.categories
    assert member is not None
    starts = np.append(0, np.cumsum(member.sum(axis=1, dtype=np.int64)))
    categories = ItemCategories(1 + np.nonzero(member)[1].astype(np.int32), starts, member.shape[1])
    return ItemFacts(inputs.unit_rows, list(_known(inputs).values()), categories)


def _lists(inputs: ExportInputs, users: Int64, exclude: Int64) -> tuple[Int64, Float32]:
    indices, scores = reference.top_k(inputs.lists.scores64(users), exclude, inputs.top_k)
    return indices, scores.astype(np.float32)


def feeds_of(indices: Int64, scores: Float32, *varieties: Variety) -> Named:
    """The inputs for lists [B, M]: one variety for all of them, or one for each."""
    varieties = varieties if len(varieties) == len(indices) else len(indices) * varieties[:1]
    return {
        "item_indices": indices,
        "scores": scores,
        "diversity": np.array([one.diversity for one in varieties], np.float32),
        "surprise": np.array([one.surprise for one in varieties], np.float32),
        "max_per_category": np.array([one.max_per_category or 0 for one in varieties], np.int64),
    }


class Followed(NamedTuple):
    """Choices that were made, float64 [B, P] each, in standard deviations of the candidates."""

    losses: Float64
    """How much less each is worth than the best one after the same choices; infinite if it is not allowed"""
    leads: Float64
    """How much more the best one is worth than the next; infinite where there is no other"""


def follow(indices: Int64, scores: Float32, variety: Variety, facts: ItemFacts, places: Int64) -> Followed:
    """Judge the order `places`, int64 [B, P], of lists [B, M] by `serve`'s rule."""
    choices, rows = Choices(indices, scores, variety, facts), np.arange(len(indices))
    columns = np.argsort(choices.rank, axis=1)  # of a place of the list
    spread = np.ones((len(rows), 1)) if choices.spread is None else choices.spread
    size = np.maximum(1.0, COSINES * variety.diversity * spread[:, 0])
    losses, leads = np.zeros(places.shape), np.full(places.shape, np.inf)
    for rank in range(places.shape[1]):
        some, values = choices.left.any(axis=1), choices.values()
        place = np.clip(places[:, rank], 0, indices.shape[1] - 1)
        pick = columns[rows, place]
        best = values.max(axis=1)
        with np.errstate(invalid="ignore"):  # of lists that have ended
            lost = np.where(place == places[:, rank], best - values[rows, pick], np.inf)
            ordered = np.sort(values, axis=1)
            lead = best - ordered[:, -2] if values.shape[1] > 1 else np.full(len(rows), np.inf)
        losses[:, rank] = np.where(some, lost, np.where(places[:, rank] == rank, 0.0, np.inf)) / size
        leads[:, rank] = np.where(some, lead, np.inf) / size
        choices.take(pick)
    return Followed(losses, leads)


def _cases(inputs: ExportInputs) -> list[Case]:
    """A variety for each of several lists, one of them none; and all options for lists of which one ends.

    Of some lists, those are taken whose choices are clearest: float32 makes the same.
    """
    facts, n_places = item_facts_of(inputs), min(inputs.top_k, LONGEST)
    known = inputs.known_users
    some = np.linspace(1, inputs.arrays.n_users if known is None else len(known), N_LISTS).astype(np.int64)
    users = np.unique(np.append(0, some if known is None else known[some - 1]))
    exclude = padded([inputs.example_history(user).item_indices for user in users], np.int64)
    indices, scores = _lists(inputs, users, exclude)
    ends = np.arange(len(users)) % 3 == 1
    kept = np.arange(inputs.top_k) < np.where(ends, 1 + inputs.top_k // 3, inputs.top_k)[:, None]
    indices, scores = np.where(kept, indices, 0), np.where(kept, scores, MASKED).astype(np.float32)

    def answer(rows: Int64, variety: Variety) -> Int64:
        return Choices(indices[rows], scores[rows], variety, facts).places(n_places)

    def clearest(variety: Variety, among: Int64) -> Int64:
        followed = follow(indices[among], scores[among], variety, facts, answer(among, variety))
        return among[np.argsort(-followed.leads.min(axis=1), kind="stable")]

    whole, short = np.flatnonzero(~ends), np.flatnonzero(ends)
    varieties = (*EXAMPLES, Variety())
    each = [clearest(one, whole)[:1] for one in varieties]
    places = [answer(row, one) for row, one in zip(each, varieties, strict=True)]
    rows, last = np.concatenate(each), EXAMPLES[-1]
    cases = [(feeds_of(indices[rows], scores[rows], *varieties), np.concatenate(places))]
    rows = np.append(clearest(last, whole)[:2], clearest(last, short)[:1])
    cases.append((feeds_of(indices[rows], scores[rows], last), answer(rows, last)))
    return [Case.of(feeds, {"places": places}) for feeds, places in cases]


def _check(run: Runner, inputs: ExportInputs, sample: Sample) -> Comparison:
    """Compare each choice for some users with the best that `serve` has after the same choices."""
    facts, sample = item_facts_of(inputs), sample.head(N_CHECKED)
    indices, scores = _lists(inputs, sample.users, sample.exclude)
    shape, errors = (len(indices), min(inputs.top_k, LONGEST)), []
    for variety in EXAMPLES:
        places = run("variety", feeds_of(indices, scores, variety))["places"]
        if places.shape != shape:
            return Comparison(len(indices), np.array([np.inf]), VALUE_TOLERANCE)
        errors.append(follow(indices, scores, variety, facts, places).losses.ravel())
    return Comparison(len(EXAMPLES) * len(indices), np.concatenate(errors), VALUE_TOLERANCE)


SPEC = GraphSpec(
    name="variety",
    inputs=INPUTS,
    outputs=OUTPUTS,
    applies=lambda inputs: inputs.categories is not None,
    build=variety_graph,
    cases=_cases,
    check=_check,
    tolerance=lambda inputs: {},
)
