"""`recommend_shard_N.onnx`: `recommend.onnx` of a range of the items, of a catalogue in shards; optional.

A shard takes and gives indices of the whole catalogue, so that all shards have the same inputs. Its tables
hold its own items, behind row 0, which is "unknown" in every table.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import onnx_ir as ir

from export.graphs import recommend
from export.graphs.build import begin, finish, rank
from export.graphs.compare_lists import check_lists
from export.graphs.packed_tables import with_packed_tables
from export.graphs.recommend import INPUTS, RATED_TOP, rated, ratings_at
from export.graphs.spec import SCORE_TOLERANCE, Comparison, GraphSpec, Named, Runner, with_errors
from export.model import reference
from export.model.arrays import Arrays, Float64, Int64
from export.model.inputs import ExportInputs, Sample
from serve.bundle.conformance import Case
from serve.bundle.shards import MAX_SHARDS, shard_name, shard_table

Range = tuple[int, int]
"""Item indices: the first, and one past the last."""


def shard_range(n_items: int, n_shards: int, number: int) -> Range:
    """The items of a shard: as many as of any other, or one more."""
    first, stop = (1 + n_items * place // n_shards for place in (number, number + 1))
    return first, stop


def shard_graph(
    lists: Arrays, number: int, items: Range, top_k: int, ratings: Arrays | None = None
) -> ir.Model:
    """Ranks the `top_k` best of some items for each user; see `recommend_graph`.

    `top_scores` are those of `lists.ordering`; `merge.onnx` makes the scores of `lists` of the K best.
    """
    first, stop = items
    rows = shard_rows(items)
    lists, ratings = lists.ordering.of_items(rows), None if ratings is None else ratings.of_items(rows)
    graph, (user_index, exclude) = begin(shard_name(number), INPUTS)
    op = graph.op
    places = op.Sub(exclude, first - 1)
    inside = op.And(op.Greater(places, 0), op.Less(places, stop - first + 1))
    logits, _ = lists.row_logits(graph, lists.user_rows(graph, user_index))
    top = rank(op, logits, op.Where(inside, places, 0), top_k)
    if ratings is not None:
        top |= rated(graph, ratings, ratings.user_rows(graph, user_index), top)
    found = top["top_item_indices"]
    top["top_item_indices"] = op.Where(op.Greater(found, 0), op.Add(found, first - 1), 0)
    model = finish(graph, RATED_TOP, top, {"K": top_k})
    for name, value in list(model.graph.initializers.items()):
        if "item_" in name:  # tables of the whole catalogue have these names
            value.name = shard_table(name, number)
    return model


def shard_rows(items: Range) -> Int64:
    """The rows of the whole catalogue in a shard's tables: row 0, and those of its items."""
    return np.append(0, np.arange(*items))


def _range(number: int, inputs: ExportInputs) -> Range:
    return shard_range(inputs.arrays.n_items, inputs.n_shards, number)


def top_k(number: int, inputs: ExportInputs) -> int:
    """K of a shard: all of its items, if the catalogue's K is more."""
    first, stop = _range(number, inputs)
    return min(inputs.top_k, stop - first)


def _build(number: int, inputs: ExportInputs) -> ir.Model:
    items, ratings = _range(number, inputs), recommend.ratings_of(inputs)
    model = shard_graph(inputs.lists, number, items, top_k(number, inputs), ratings)
    packed = {shard_table(name, number): table for name, table in inputs.packed.items()}
    held = packed.keys() & model.graph.initializers.keys()
    return with_packed_tables(model, {name: packed[name].of_rows(shard_rows(items)) for name in sorted(held)})


def shard_lists64(number: int, inputs: ExportInputs, users: Int64, exclude: Int64) -> Named:
    """What a shard gives in float64, for users int64 [B] without items int64 [B, E]."""
    items = _range(number, inputs)
    rows = shard_rows(items)
    scores = inputs.lists.ordering.of_items(rows).scores64(users)
    places, best = reference.top_k(scores, _places(exclude, items), top_k(number, inputs))
    outputs: Named = {"top_item_indices": rows[places], "top_scores": best}
    if inputs.rates_lists:
        outputs["top_ratings"] = ratings_at(inputs.arrays.of_items(rows).scores64(users), places)
    return outputs


def _places(indices: Int64, items: Range) -> Int64:
    """Rows of a shard's tables of indices of the catalogue; 0 where an item is not the shard's."""
    first, stop = items
    places: Int64 = np.where((indices >= first) & (indices < stop), indices - first + 1, 0)
    return places


def _cases(number: int, inputs: ExportInputs) -> list[Case]:
    """The users of `recommend`; all exclude what they have rated in any shard."""
    cases = []
    for case in recommend.cases(inputs):
        feeds, _ = case.arrays()
        right = shard_lists64(number, inputs, feeds["user_index"], feeds["exclude_item_indices"])
        cases.append(Case.of(feeds, right))
    return cases


def _tolerance(inputs: ExportInputs) -> dict[str, float]:
    return recommend.tolerance(inputs) | {"top_scores": SCORE_TOLERANCE * inputs.order_span}


def _check(number: int, run: Runner, inputs: ExportInputs, sample: Sample) -> Comparison:
    """Compare with float64: torch has no scores before the range. `merge` compares all shards with torch."""
    items, allowed = _range(number, inputs), _tolerance(inputs)
    users, exclude = sample.users, sample.exclude
    found = run(shard_name(number), {"user_index": users, "exclude_item_indices": exclude})
    places = _places(found["top_item_indices"], items)
    if not np.array_equal(places > 0, found["top_item_indices"] > 0):  # an item of another shard
        return Comparison(len(users), np.array([np.inf]), allowed["top_scores"], 0.0)
    truth: Float64 = inputs.lists.ordering.of_items(shard_rows(items)).scores64(users)
    listed = found | {"top_item_indices": places}
    k = top_k(number, inputs)
    comparison = check_lists(truth, _places(exclude, items), listed, k, allowed["top_scores"])
    if not inputs.rates_lists or np.isinf(comparison.errors).any():
        return comparison
    errors = np.abs(found["top_ratings"] - inputs.torch_ratings(users, found["top_item_indices"]))
    errors[places == 0] = 0.0  # padding
    return with_errors(comparison, errors, allowed["top_ratings"])


def _spec(number: int) -> GraphSpec:
    return GraphSpec(
        name=shard_name(number),
        inputs=INPUTS,
        outputs=RATED_TOP,
        applies=lambda inputs: number < inputs.n_shards,
        build=partial(_build, number),
        cases=partial(_cases, number),
        check=partial(_check, number),
        tolerance=_tolerance,
        top_k=partial(top_k, number),
        items=partial(_range, number),
    )


SPECS = tuple(map(_spec, range(MAX_SHARDS)))
