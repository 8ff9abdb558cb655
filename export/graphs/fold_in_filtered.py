"""`fold_in_filtered.onnx`: `fold_in.onnx` with rules that the listed items obey; optional, likewise."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from export.graphs import fold_in
from export.graphs.build import begin, finish
from export.graphs.compare_lists import check_lists
from export.graphs.fold_in import NewUser, best_listed, best_rated, folding, new_rows, ridge_arrays
from export.graphs.recommend import RATED_TOP, ratings_at, tolerance
from export.graphs.recommend_filtered import N_CHECKED, columns_of, left_out
from export.graphs.rules import RULES, banned_items, example_rules, no_rules, sizes
from export.graphs.spec import Comparison, GraphSpec, Named, Runner, TensorSpec, with_errors
from export.model import reference
from export.model.inputs import ExportInputs, Sample
from serve.bundle.conformance import Case
from serve.runtime.validation import padded

INPUTS = (*fold_in.INPUTS, TensorSpec("exclude_item_indices", "int64", ("B", "E")), *RULES)


def _build(inputs: ExportInputs) -> ir.Model:
    """Ranks K items for each new user without those rated, excluded or banned by the rules."""
    columns = columns_of(inputs)
    graph, (item_indices, ratings, more, *rules) = begin("fold_in_filtered", INPUTS, sizes=sizes(columns))
    banned = banned_items(graph, columns, {one.name: one for one in rules if one.name})
    exclude = graph.op.Concat(item_indices, more, axis=1)
    new = NewUser(item_indices, ratings, exclude, banned)
    if inputs.ranking is not None:
        top, _ = best_listed(graph, inputs, new)
    else:
        assert inputs.fold_in is not None
        top, _ = best_rated(graph, ridge_arrays(inputs.arrays), inputs.top_k, inputs.fold_in, new)
    return finish(graph, RATED_TOP, top, {"K": inputs.top_k})


def _cases(inputs: ExportInputs) -> list[Case]:
    """The users of `fold_in`, with a rule each, with one rule, and with none."""
    item_indices, ratings, found = fold_in.examples(inputs)
    more = np.resize(inputs.example_items, (len(found), 1))
    columns = columns_of(inputs)
    exclude = np.concatenate([item_indices, more], axis=1)
    truth = folding(inputs.lists).row_scores64(np.stack([one.lists for one in found]))
    rating_rows = [one.ratings for one in found if one.ratings is not None]
    predicted = folding(inputs.arrays).row_scores64(np.stack(rating_rows)) if rating_rows else None
    cases = []
    given: tuple[Named, ...] = (
        example_rules(columns, len(found)),
        example_rules(columns, 1),
        no_rules(columns, 1),
    )
    for rules in given:
        indices, scores = reference.top_k(truth, left_out(columns, rules, exclude), inputs.top_k)
        outputs = {"top_item_indices": indices, "top_scores": scores}
        if predicted is not None and inputs.rates_lists:
            outputs["top_ratings"] = ratings_at(predicted, indices)
        feeds: Named = {
            "item_indices": item_indices,
            "ratings": ratings,
            "exclude_item_indices": more,
            **rules,
        }
        cases.append(Case.of(feeds, outputs))
    return cases


def _tolerance(inputs: ExportInputs) -> dict[str, float]:
    allowed = tolerance(inputs)
    if inputs.fold_in is None:
        allowed.pop("top_ratings", None)
    return allowed


def _check(run: Runner, inputs: ExportInputs, sample: Sample) -> Comparison:
    """Compare the lists of new users with a rule each with the closed forms in float64."""
    columns, allowed = columns_of(inputs), _tolerance(inputs)
    given = [history.known for history in sample.histories[:N_CHECKED]]
    item_indices = padded([one.item_indices for one in given], np.int64)
    ratings = padded([one.ratings for one in given], np.float32)
    more = np.zeros((len(given), 1), np.int64)
    rules = example_rules(columns, len(given))
    feeds = {"item_indices": item_indices, "ratings": ratings, "exclude_item_indices": more, **rules}
    found = run("fold_in_filtered", feeds)
    exact = [new_rows(inputs, *one) for one in given]
    truth = folding(inputs.lists).row_scores64(np.stack([one.lists for one in exact]))
    every = left_out(columns, rules, item_indices)
    comparison = check_lists(truth, every, found, inputs.top_k, allowed["top_scores"])
    rating_rows = [one.ratings for one in exact if one.ratings is not None]
    if "top_ratings" not in allowed or np.isinf(comparison.errors).any():
        return comparison
    predicted = folding(inputs.arrays).row_scores64(np.stack(rating_rows))
    errors = np.abs(found["top_ratings"] - ratings_at(predicted, found["top_item_indices"]))
    errors[found["top_item_indices"] == 0] = 0.0  # -1e30 is no float32
    return with_errors(comparison, errors, allowed["top_ratings"])


SPEC = GraphSpec(
    name="fold_in_filtered",
    inputs=INPUTS,
    outputs=RATED_TOP,
    applies=lambda inputs: inputs.columns is not None and fold_in.SPEC.applies(inputs),
    build=_build,
    cases=_cases,
    check=_check,
    tolerance=_tolerance,
)
