"""The steps of `explain.onnx`, by the float64 solver."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from export.graphs.explain import checked_errors, checked_histories, explain_graph
from export.graphs.spec import SCORE_TOLERANCE, Named
from export.model.contributions import can_explain
from export.model.inputs import ExportInputs
from export.verify.runners import Feeds, open_in_memory
from export.write.fold_in_choice import STEPS
from serve.bundle.explain import Explain

NO_SUM = "the score of a network is no sum of what each rating adds"
NO_FOLD_IN = "new users have no fold-in, whose scores it would explain"


def with_explain(inputs: ExportInputs, least_steps: int = STEPS[0]) -> ExportInputs:
    """The same with `explain.onnx`, of the fewest steps that agree with float64; or why not."""
    if not can_explain(inputs):
        why = NO_FOLD_IN if inputs.ranking is not None or inputs.fold_in is None else NO_SUM
        return _without(inputs, why)
    error = np.inf
    for steps in (least_steps, *(more for more in STEPS if more > least_steps)):
        inputs = replace(inputs, explain=Explain(steps=steps))
        # Half, since other machines round otherwise.
        if (error := _largest_error(inputs)) <= SCORE_TOLERANCE / 2:
            return inputs
    return _without(inputs, f"{STEPS[-1]} steps in float32 are off by {error:.1g} of the scores' span")


def _without(inputs: ExportInputs, why: str) -> ExportInputs:
    return replace(inputs, explain=None, left_out={**inputs.left_out, "explain": why})


def _largest_error(inputs: ExportInputs) -> float:
    """The largest error of the graph on onnxruntime's CPU, as its check at the end takes it."""
    session = open_in_memory(explain_graph(inputs))
    names = [output.name for output in session.get_outputs()]

    def run(graph: str, feeds: Feeds) -> Named:
        return dict(zip(names, session.run(names, dict(feeds)), strict=True))

    errors = [checked_errors(run, inputs, known).max() for known, _ in checked_histories(inputs)]
    return float(np.max(errors))  # unlike max(), NaN if one is
