"""`recommend.onnx`: users in, their K best items out; the whole retrieval in one graph."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
from onnxscript import GraphBuilder

from export.graphs.build import begin, finish, rank
from export.graphs.compare_lists import check_lists
from export.graphs.spec import SCORE_TOLERANCE, Comparison, GraphSpec, Named, Runner, TensorSpec, with_errors
from export.model import reference
from export.model.arrays import Arrays, Float64, Int64
from export.model.inputs import ExportInputs, Sample
from export.model.reference import MASKED
from serve.bundle.conformance import Case
from serve.runtime.validation import padded

INPUTS = (TensorSpec("user_index", "int64", ("B",)), TensorSpec("exclude_item_indices", "int64", ("B", "E")))
TOP = (TensorSpec("top_item_indices", "int64", ("B", "K")), TensorSpec("top_scores", "float32", ("B", "K")))
RATED_TOP = (*TOP, TensorSpec("top_ratings", "float32", ("B", "K"), optional=True))


def recommend_graph(lists: Arrays, top_k: int, ratings: Arrays | None = None) -> ir.Model:
    """Ranks `top_k` items for each user, without the excluded ones (0-padded).

    Args:
        lists: the model that orders the items.
        top_k: K.
        ratings: predicts the ratings of the K best; None: `top_scores` are ratings, or nothing predicts any.
    """
    graph, (user_index, exclude) = begin("recommend", INPUTS)
    top = best_items(graph, lists, user_index, exclude, top_k, ratings)
    return finish(graph, RATED_TOP, top, {"K": top_k})


def best_items(
    graph: GraphBuilder,
    lists: Arrays,
    user_index: ir.Value,
    exclude: ir.Value,
    top_k: int,
    ratings: Arrays | None = None,
    banned: ir.Value | None = None,
) -> dict[str, ir.Value]:
    """The K best items of each user (int64 [B]) without the excluded ones (int64 [B, E]), as from `rank`.

    `banned`: bool [1 or B, n_items + 1], further items that are not listed.
    """
    logits, row_bias = lists.row_logits(graph, lists.user_rows(graph, user_index), banned)
    top = rank(graph.op, logits, exclude, top_k, row_bias, lists.y_range)
    return top if ratings is None else top | rated(graph, ratings, ratings.user_rows(graph, user_index), top)


def rated(
    graph: GraphBuilder, ratings: Arrays, rows: dict[str, ir.Value], top: dict[str, ir.Value]
) -> dict[str, ir.Value]:
    """The predicted ratings of the K best, for users' rows; -1e30 where no item is left."""
    items = top["top_item_indices"]
    predicted = ratings.row_scores(graph, rows, items)
    return {"top_ratings": graph.op.Where(graph.op.Greater(items, 0), predicted, MASKED)}


def ratings_of(inputs: ExportInputs) -> Arrays | None:
    """The model that predicts the ratings of a list, where the scores that order it do not."""
    return inputs.arrays if inputs.rates_lists else None


def ratings_at(scores: Float64, indices: Int64) -> Float64:
    """Ratings float64 [B, n_items + 1] at the indices int64 [B, K] of lists; -1e30 at 0."""
    found: Float64 = np.where(indices > 0, np.take_along_axis(scores, indices, axis=1), MASKED)
    return found


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
    indices, scores = reference.top_k(inputs.lists.scores64(users), exclude, inputs.top_k)
    outputs = {"top_item_indices": indices, "top_scores": scores}
    if inputs.rates_lists:
        outputs["top_ratings"] = ratings_at(inputs.arrays.scores64(users), indices)
    return Case.of({"user_index": users, "exclude_item_indices": exclude}, outputs)


def tolerance(inputs: ExportInputs) -> dict[str, float]:
    """The tolerances of scores and ratings, shares of their spans."""
    of_scores = {"top_scores": SCORE_TOLERANCE * inputs.list_span}
    return of_scores | ({"top_ratings": SCORE_TOLERANCE * inputs.score_span} if inputs.rates_lists else {})


def check_rated(found: Named, inputs: ExportInputs, users: Int64, exclude: Int64) -> Comparison:
    """Compare lists, and the ratings in them where there are any, with torch."""
    allowed = tolerance(inputs)
    truth = inputs.torch_list_scores(users, found["top_item_indices"])
    comparison = check_lists(truth, exclude, found, inputs.top_k, allowed["top_scores"])
    if not inputs.rates_lists or np.isinf(comparison.errors).any():
        return comparison
    listed = found["top_item_indices"]
    errors = np.abs(found["top_ratings"] - inputs.torch_ratings(users, listed))
    errors[listed == 0] = 0.0  # padding
    return with_errors(comparison, errors, allowed["top_ratings"])


def _check(run: Runner, inputs: ExportInputs, sample: Sample) -> Comparison:
    found = run("recommend", {"user_index": sample.users, "exclude_item_indices": sample.exclude})
    return check_rated(found, inputs, sample.users, sample.exclude)


SPEC = GraphSpec(
    name="recommend",
    inputs=INPUTS,
    outputs=RATED_TOP,
    applies=lambda inputs: not inputs.n_shards,
    build=lambda inputs: recommend_graph(inputs.lists, inputs.top_k, ratings_of(inputs)),
    cases=cases,
    check=_check,
    tolerance=tolerance,
)
