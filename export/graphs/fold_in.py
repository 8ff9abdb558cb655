"""`fold_in.onnx`: a new user's ratings in, recommendations out, by the model's closed form for new users."""

from __future__ import annotations

from typing import cast

import numpy as np
import onnx_ir as ir

from export.graphs.build import begin, finish, rank
from export.graphs.recommend import TOP
from export.graphs.spec import SCORE_TOLERANCE, Comparison, GraphSpec, Runner, TensorSpec
from export.model import reference
from export.model.arrays import Arrays, FoldInArrays
from export.model.inputs import ExportInputs, Ratings, Sample
from export.verify.compare_lists import compare_lists
from serve.bundle.conformance import Case
from serve.bundle.manifest import FoldIn
from serve.runtime.validation import padded

INPUTS = (TensorSpec("item_indices", "int64", ("B", "H")), TensorSpec("ratings", "float32", ("B", "H")))
OUTPUTS = (
    *TOP,
    TensorSpec("user_factors", "float32", ("B", "F")),
    TensorSpec("user_biases", "float32", ("B", "1"), optional=True),
)
# Relative to the size of users' rows: float32 sums over hundreds of ratings reach about 1e-6.
FACTOR_TOLERANCE = 1e-5


def fold_in_graph(arrays: FoldInArrays, top_k: int, settings: FoldIn) -> ir.Model:
    """Ranks `top_k` items for each new user, without those that the user has rated.

    `item_indices` are 0-padded, and the ratings of padding are ignored.
    """
    graph, (item_indices, ratings) = begin("fold_in", INPUTS)
    parts = arrays.fold_in(graph, item_indices, ratings, settings)
    logits, row_bias = arrays.row_logits(graph, parts)
    top = rank(graph.op, logits, item_indices, top_k, row_bias, arrays.y_range)
    n_factors = arrays.row_parts()["user_factors"].stop
    return finish(graph, OUTPUTS, top | parts, {"K": top_k, "F": n_factors, "1": 1})


def folding(arrays: Arrays) -> FoldInArrays:
    """The same arrays, which `can_fold_in`, under the type that says so."""
    assert arrays.can_fold_in
    return cast("FoldInArrays", arrays)


def _settings(inputs: ExportInputs) -> FoldIn:
    assert inputs.fold_in is not None
    return inputs.fold_in


def _cases(inputs: ExportInputs) -> list[Case]:
    """Some users' histories, a single rating, and none."""
    arrays = folding(inputs.arrays)
    ridge = arrays.ridge(_settings(inputs))
    histories = [inputs.example_history(user) for user in inputs.example_users]
    histories += [Ratings(histories[0].item_indices[:n], histories[0].ratings[:n]) for n in (1, 0)]
    item_indices = padded([items for items, _ in histories], np.int64)
    ratings = padded([ratings for _, ratings in histories], np.float32)
    rows = np.stack([arrays.fold_in64(i, r, ridge) for i, r in zip(item_indices, ratings, strict=True)])
    indices, scores = reference.top_k(arrays.row_scores64(rows), item_indices, inputs.top_k)
    outputs = {"top_item_indices": indices, "top_scores": scores}
    outputs |= {name: rows[:, part] for name, part in arrays.row_parts().items()}
    return [Case.of({"item_indices": item_indices, "ratings": ratings}, outputs)]


def _tolerance(inputs: ExportInputs) -> dict[str, float]:
    arrays = folding(inputs.arrays)
    of_rows = dict.fromkeys(arrays.row_parts(), FACTOR_TOLERANCE * arrays.row_size)
    return {"top_scores": SCORE_TOLERANCE * inputs.score_span, **of_rows}


def _check(run: Runner, inputs: ExportInputs, sample: Sample) -> Comparison:
    arrays = folding(inputs.arrays)
    ridge = arrays.ridge(_settings(inputs))
    tolerance = _tolerance(inputs)["top_scores"]
    errors, agreements = [], []
    for (items, ratings), _ in sample.histories:
        found = run("fold_in", {"item_indices": items[None], "ratings": ratings[None]})
        exact = arrays.fold_in64(items, ratings, ridge)
        truth = arrays.row_scores64(exact[None])
        listed, agreement = compare_lists(
            truth, items[None], found["top_item_indices"], found["top_scores"], tolerance
        )
        row = np.concatenate([found[name] for name in arrays.row_parts()], axis=1)[0]
        # One list of errors: those of rows are scaled to the tolerance of scores.
        errors += [listed, np.array([row_error(arrays, row, exact) / FACTOR_TOLERANCE * tolerance])]
        agreements.append(agreement)
    return Comparison(len(agreements), np.concatenate(errors), tolerance, float(np.mean(agreements)))


def row_error(arrays: FoldInArrays, found: np.ndarray, exact: np.ndarray) -> float:
    """Largest difference of two rows [row], relative to the size of such rows."""
    return float(np.abs(found - exact).max() / max(arrays.row_size, np.abs(exact).max()))


SPEC = GraphSpec(
    name="fold_in",
    inputs=INPUTS,
    outputs=OUTPUTS,
    applies=lambda inputs: inputs.arrays.can_fold_in and inputs.fold_in is not None,
    build=lambda inputs: fold_in_graph(folding(inputs.arrays), inputs.top_k, _settings(inputs)),
    cases=_cases,
    check=_check,
    tolerance=_tolerance,
)
