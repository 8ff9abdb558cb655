"""`explain.onnx`: what each rating of a new user adds to the score of an item; optional.

The scores are those of `fold_in.onnx`. `export.model.contributions` says how they are split.
"""

from __future__ import annotations

from typing import cast

import numpy as np
import onnx_ir as ir

from export.graphs import fold_in
from export.graphs.build import begin, finish
from export.graphs.spec import SCORE_TOLERANCE, Comparison, GraphSpec, Named, Runner, TensorSpec
from export.model.arrays import Float64, FoldInArrays, Int64
from export.model.contributions import Contributions, contributions, contributions64
from export.model.inputs import ExportInputs, FoldInHistory, Ratings, Sample
from serve.bundle.conformance import Case

INPUTS = (*fold_in.INPUTS, TensorSpec("explained_item_indices", "int64", ("B", "E")))
OUTPUTS = (TensorSpec("contributions", "float32", ("B", "E", "H")), TensorSpec("rest", "float32", ("B", "E")))
# Users who are compared with float64, and the items of each that are explained: the best, and some others.
N_CHECKED, N_BEST, N_OTHERS = 48, 6, 4


def explain_graph(inputs: ExportInputs) -> ir.Model:
    """Splits the scores of items for each new user; the ratings of padding are ignored, and add 0."""
    graph, (item_indices, ratings, explained) = begin("explain", INPUTS)
    found = contributions(graph, inputs, item_indices, ratings, explained)
    return finish(graph, OUTPUTS, {"contributions": found.contributions, "rest": found.rest}, {})


def _cases(inputs: ExportInputs) -> list[Case]:
    """The new users of `fold_in`; of each, the example items, its first rated one and the unknown item."""
    item_indices, ratings, _ = fold_in.examples(inputs)
    others = np.append(inputs.example_items, 0)
    explained = np.column_stack([np.tile(others, (len(item_indices), 1)), item_indices[:, 0]])
    rows = zip(item_indices, ratings, explained, strict=True)
    found = [contributions64(inputs, *row) for row in rows]
    feeds: Named = {"item_indices": item_indices, "ratings": ratings, "explained_item_indices": explained}
    outputs: Named = {
        "contributions": np.stack([one.contributions for one in found]),
        "rest": np.stack([one.rest for one in found]),
    }
    return [Case.of(feeds, outputs)]


def _size(inputs: ExportInputs, found: Contributions) -> float:
    """What errors are relative to: the width of the scores, or the largest contribution."""
    return max(inputs.list_span, float(np.abs(found.contributions).max(initial=0.0)))


def _tolerance(inputs: ExportInputs) -> dict[str, float]:
    item_indices, ratings, _ = fold_in.examples(inputs)
    every = np.arange(1, inputs.arrays.n_items + 1)[:: max(1, inputs.arrays.n_items // 1000)]
    rows = zip(item_indices, ratings, strict=True)
    size = max(_size(inputs, contributions64(inputs, *row, every)) for row in rows)
    # Without the last bit of float64 sums, which differs between machines.
    return dict.fromkeys(("contributions", "rest"), SCORE_TOLERANCE * float(f"{size:.6g}"))


def checked_histories(inputs: ExportInputs) -> list[FoldInHistory]:
    """Some of the sample's users: the longest histories, which converge last, and the first ones."""
    histories = list(inputs.sample.histories)
    longest = sorted(histories, key=lambda history: -len(history.known.item_indices))
    half = N_CHECKED // 2
    return histories if len(histories) <= N_CHECKED else longest[:half] + histories[:half]


def checked_errors(run: Runner, inputs: ExportInputs, known: Ratings) -> Float64:
    """Errors of a graph for one user, relative to `_size`, which are compared with `SCORE_TOLERANCE`.

    They are those of the contributions and the rest against float64, and those of their sum against the
    scores that `fold_in` gives in float64. A sum of H contributions, each rounded, is allowed the errors of
    all: it is divided by the root of H.
    """
    arrays = cast("FoldInArrays", inputs.lists)
    scores = arrays.row_scores64(fold_in.new_rows(inputs, *known).lists[None])[0]
    explained = _explained(scores, known.item_indices)
    feeds: Named = {
        "item_indices": known.item_indices[None],
        "ratings": known.ratings[None],
        "explained_item_indices": explained[None],
    }
    found, exact = run("explain", feeds), contributions64(inputs, *known, explained)
    size = _size(inputs, exact)
    wrong = [found["contributions"][0] - exact.contributions, found["rest"][0] - exact.rest]
    total = found["contributions"][0].astype(np.float64).sum(axis=1) + found["rest"][0]
    wrong.append((total - scores[explained]) / max(1.0, float(np.sqrt(len(known.item_indices)))))
    return np.concatenate([np.abs(part).ravel() for part in wrong]) / size


def _explained(scores: Float64, rated: Int64) -> Int64:
    """The best items that are not rated, and others from the whole catalogue."""
    left = scores.copy()
    left[np.append(rated, 0)] = -np.inf
    others = np.linspace(1, len(scores) - 1, N_OTHERS).astype(np.int64)
    return np.append(np.argsort(-left, kind="stable")[:N_BEST], others)


def _check(run: Runner, inputs: ExportInputs, sample: Sample) -> Comparison:
    """Compare with float64, and the sums with `fold_in`'s scores; errors are scaled to the tolerance."""
    tolerance = _tolerance(inputs)["contributions"]
    histories = checked_histories(inputs) if len(sample.histories) > N_CHECKED else sample.histories
    errors = [checked_errors(run, inputs, known) for known, _ in histories]
    return Comparison(len(histories), np.concatenate(errors) / SCORE_TOLERANCE * tolerance, tolerance)


SPEC = GraphSpec(
    name="explain",
    inputs=INPUTS,
    outputs=OUTPUTS,
    applies=lambda inputs: inputs.explain is not None,
    build=explain_graph,
    cases=_cases,
    check=_check,
    tolerance=_tolerance,
)
