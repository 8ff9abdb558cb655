"""`fold_in.onnx`: a new user's ratings in, recommendations out, by the model's closed form for new users."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, cast

import numpy as np
import onnx_ir as ir
from onnxscript import GraphBuilder

from export.graphs.build import begin, finish, rank
from export.graphs.compare_lists import compare_lists
from export.graphs.recommend import RATED_TOP, rated, ratings_at
from export.graphs.spec import SCORE_TOLERANCE, Comparison, GraphSpec, Runner, TensorSpec
from export.model import reference
from export.model.arrays import Arrays, Float32, Float64, FoldInArrays, Int64, RidgeArrays
from export.model.inputs import ExportInputs, Ratings, Sample
from serve.bundle.conformance import Case
from serve.bundle.manifest import FoldIn
from serve.runtime.validation import padded

INPUTS = (TensorSpec("item_indices", "int64", ("B", "H")), TensorSpec("ratings", "float32", ("B", "H")))
OUTPUTS = (
    *RATED_TOP,
    TensorSpec("user_factors", "float32", ("B", "F")),
    TensorSpec("user_biases", "float32", ("B", "1"), optional=True),
    # Of the part that predicts ratings, where others order the lists: for the rating of any item.
    TensorSpec("rating_factors", "float32", ("B", "R"), optional=True),
    TensorSpec("rating_biases", "float32", ("B", "1"), optional=True),
)
# Relative to the size of users' rows: float32 sums over hundreds of ratings reach about 1e-6.
FACTOR_TOLERANCE = 1e-5


def fold_in_graph(arrays: RidgeArrays, top_k: int, settings: FoldIn) -> ir.Model:
    """Ranks `top_k` items for each new user, without those that the user has rated.

    `item_indices` are 0-padded, and the ratings of padding are ignored.
    """
    graph, (item_indices, ratings) = begin("fold_in", INPUTS)
    top, parts = best_rated(graph, arrays, top_k, settings, NewUser(item_indices, ratings, item_indices))
    n_factors = arrays.row_parts()["user_factors"].stop
    return finish(graph, OUTPUTS, top | parts, {"K": top_k, "F": n_factors, "1": 1})


class NewUser(NamedTuple):
    """Nodes of new users, and what their lists leave out."""

    item_indices: ir.Value
    """int64 [B, H], 0-padded"""
    ratings: ir.Value
    """float32 [B, H]"""
    exclude: ir.Value
    """int64 [B, E], 0-padded"""
    banned: ir.Value | None = None
    """bool [1 or B, n_items + 1]"""


Nodes = dict[str, ir.Value]


def best_rated(
    graph: GraphBuilder, arrays: RidgeArrays, top_k: int, settings: FoldIn, new: NewUser
) -> tuple[Nodes, Nodes]:
    """The K best as from `rank`, and the parts of the users' rows, where ratings order the lists."""
    parts = arrays.fold_in(graph, new.item_indices, new.ratings, settings)
    logits, row_bias = arrays.row_logits(graph, parts, new.banned)
    return rank(graph.op, logits, new.exclude, top_k, row_bias, arrays.y_range), parts


def fold_in_rows_graph(arrays: RidgeArrays, settings: FoldIn) -> ir.Model:
    """The rows of the new users alone: nothing is ranked."""
    graph, (item_indices, ratings) = begin("fold_in", INPUTS)
    parts = arrays.fold_in(graph, item_indices, ratings, settings)
    outputs = [tensor for tensor in OUTPUTS if tensor.name in parts]
    return finish(graph, outputs, parts, {"F": arrays.row_parts()["user_factors"].stop, "1": 1})


def best_listed(graph: GraphBuilder, inputs: ExportInputs, new: NewUser) -> tuple[Nodes, Nodes]:
    """The same where parts that rank order the lists; with the predicted ratings of the K best, if any."""
    ranking, settings = inputs.ranking, inputs.list_fold_in
    assert ranking is not None
    assert settings is not None
    rating_rows = None
    if inputs.fold_in is not None:
        rating_rows = ridge_arrays(inputs.arrays).fold_in(
            graph, new.item_indices, new.ratings, inputs.fold_in
        )
    rating_row = None if rating_rows is None else rating_rows["user_factors"]
    rows = ranking.list_row(graph, new.item_indices, new.ratings, settings, rating_row)
    logits, row_bias = ranking.row_logits(graph, rows, new.banned)
    top = rank(graph.op, logits, new.exclude, inputs.top_k, row_bias)
    if rating_rows is not None:
        top |= rated(graph, inputs.arrays, rating_rows, top)
        # Named copies: one value can't be an output and bear another name inside.
        rows |= {_rating_name(name): graph.op.Identity(row) for name, row in rating_rows.items()}
    return top, rows


def list_fold_in_graph(inputs: ExportInputs) -> ir.Model:
    """`fold_in_graph` where parts that rank order the lists."""
    ranking = inputs.ranking
    assert ranking is not None
    graph, (item_indices, ratings) = begin("fold_in", INPUTS)
    top, rows = best_listed(graph, inputs, NewUser(item_indices, ratings, item_indices))
    sizes = {"K": inputs.top_k, "F": ranking.row_parts()["user_factors"].stop, "1": 1}
    sizes["R"] = inputs.arrays.item_factors.shape[1]
    return finish(graph, OUTPUTS, top | rows, sizes)


def _rating_name(name: str) -> str:
    """The output with a part of the rows that predict ratings: "rating_factors" of "user_factors"."""
    return name.replace("user_", "rating_")


class NewRows(NamedTuple):
    """The rows of a new user in float64."""

    lists: Float64
    """[row] of the model that orders the lists"""
    ratings: Float64 | None
    """[row] of the model that predicts ratings, where that is another one"""


def new_rows(inputs: ExportInputs, item_indices: Int64, ratings: Float32) -> NewRows:
    """A new user by the closed forms: items int64 [H], 0-padded, and ratings float32 [H]."""
    rating_row = None
    if inputs.fold_in is not None:
        arrays = ridge_arrays(inputs.arrays)
        rating_row = arrays.fold_in64(item_indices, ratings, arrays.ridge(inputs.fold_in))
    if inputs.ranking is None:
        assert rating_row is not None
        return NewRows(rating_row, None)
    assert inputs.list_fold_in is not None
    row = inputs.ranking.list_row64(item_indices, ratings, inputs.list_fold_in, rating_row)
    return NewRows(row, rating_row)


def folding(arrays: Arrays) -> FoldInArrays:
    """The same arrays, which `can_fold_in`, under the type that says so."""
    assert arrays.can_fold_in
    return cast("FoldInArrays", arrays)


def ridge_arrays(arrays: Arrays) -> RidgeArrays:
    """The same arrays of a model of ratings, likewise."""
    assert arrays.can_fold_in
    return cast("RidgeArrays", arrays)


def _build(inputs: ExportInputs) -> ir.Model:
    if inputs.ranking is not None:
        return list_fold_in_graph(inputs)
    assert inputs.fold_in is not None
    return fold_in_graph(ridge_arrays(inputs.arrays), inputs.top_k, inputs.fold_in)


def examples(inputs: ExportInputs) -> tuple[Int64, Float32, list[NewRows]]:
    """Some users' histories, a single rating, and none, [B, H] both; and the rows that they give."""
    histories = [inputs.example_history(user) for user in inputs.example_users]
    histories += [Ratings(histories[0].item_indices[:n], histories[0].ratings[:n]) for n in (1, 0)]
    item_indices = padded([items for items, _ in histories], np.int64)
    ratings = padded([ratings for _, ratings in histories], np.float32)
    found = [new_rows(inputs, *given) for given in zip(item_indices, ratings, strict=True)]
    return item_indices, ratings, found


def _cases(inputs: ExportInputs) -> list[Case]:
    lists = folding(inputs.lists)
    item_indices, ratings, found = examples(inputs)
    rows = np.stack([one.lists for one in found])
    indices, scores = reference.top_k(lists.row_scores64(rows), item_indices, inputs.top_k)
    outputs = {"top_item_indices": indices, "top_scores": scores}
    outputs |= {name: rows[:, part] for name, part in lists.row_parts().items()}
    rating_rows = [one.ratings for one in found if one.ratings is not None]
    if rating_rows:
        of_ratings = folding(inputs.arrays)
        rows = np.stack(rating_rows)
        outputs["top_ratings"] = ratings_at(of_ratings.row_scores64(rows), indices)
        outputs |= {_rating_name(name): rows[:, part] for name, part in of_ratings.row_parts().items()}
    return [Case.of({"item_indices": item_indices, "ratings": ratings}, outputs)]


def _tolerance(inputs: ExportInputs) -> dict[str, float]:
    lists, found = folding(inputs.lists), examples(inputs)[2]
    size = _largest(lists, [one.lists for one in found])
    of_rows = dict.fromkeys(lists.row_parts(), FACTOR_TOLERANCE * size)
    of_ratings = {}
    if _rates(inputs):
        arrays = folding(inputs.arrays)
        of_ratings = {"top_ratings": SCORE_TOLERANCE * inputs.score_span}
        size = _largest(arrays, [one.ratings for one in found if one.ratings is not None])
        of_ratings |= {_rating_name(name): FACTOR_TOLERANCE * size for name in arrays.row_parts()}
    return {"top_scores": SCORE_TOLERANCE * inputs.list_span, **of_ratings, **of_rows}


def _largest(arrays: FoldInArrays, rows: Sequence[Float64]) -> float:
    """Largest entry of the users' rows, or of these rows: after a short training, those can be far larger."""
    size = max(arrays.row_size, *(float(np.abs(row).max()) for row in rows))
    return float(f"{size:.6g}")  # without the last bit of float64 sums, which differs between machines


def _rates(inputs: ExportInputs) -> bool:
    """Whether the graph predicts ratings beside the scores that order the list."""
    return inputs.ranking is not None and inputs.fold_in is not None


def _check(run: Runner, inputs: ExportInputs, sample: Sample) -> Comparison:
    lists = folding(inputs.lists)
    tolerances = _tolerance(inputs)
    tolerance = tolerances["top_scores"]
    errors, agreements = [], []
    rows64 = [new_rows(inputs, *known) for known, _ in sample.histories]
    truths = lists.row_scores64(np.stack([exact.lists for exact in rows64]))
    for ((items, ratings), _), exact, truth in zip(sample.histories, rows64, truths, strict=True):
        found = run("fold_in", {"item_indices": items[None], "ratings": ratings[None]})
        listed, agreement = compare_lists(
            truth[None], items[None], found["top_item_indices"], found["top_scores"], tolerance
        )
        row = np.concatenate([found[name] for name in lists.row_parts()], axis=1)[0]
        # One list of errors: those of rows and ratings are scaled to the tolerance of scores.
        errors += [listed, np.array([row_error(lists, row, exact.lists) / FACTOR_TOLERANCE * tolerance])]
        if exact.ratings is not None:
            of_ratings = folding(inputs.arrays)
            row = np.concatenate([found[_rating_name(name)] for name in of_ratings.row_parts()], axis=1)[0]
            wrong_row = row_error(of_ratings, row, exact.ratings)
            errors.append(np.array([wrong_row / FACTOR_TOLERANCE * tolerance]))
            listed_items = found["top_item_indices"]
            predicted = of_ratings.of_items(listed_items[0]).row_scores64(exact.ratings[None])
            wrong = np.abs(found["top_ratings"] - predicted)
            wrong[listed_items == 0] = 0.0  # -1e30 is no float32
            errors.append(wrong.ravel() * (tolerance / tolerances["top_ratings"]))
        agreements.append(agreement)
    return Comparison(len(agreements), np.concatenate(errors), tolerance, float(np.mean(agreements)))


def row_error(arrays: FoldInArrays, found: np.ndarray, exact: np.ndarray) -> float:
    """Largest difference of two rows [row], relative to the size of such rows."""
    return float(np.abs(found - exact).max() / max(arrays.row_size, np.abs(exact).max()))


SPEC = GraphSpec(
    name="fold_in",
    inputs=INPUTS,
    outputs=OUTPUTS,
    applies=lambda inputs: (inputs.fold_in if inputs.ranking is None else inputs.list_fold_in) is not None,
    build=_build,
    cases=_cases,
    check=_check,
    tolerance=_tolerance,
)
