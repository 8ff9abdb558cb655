"""A bundle against the model that it was made of, asked through the model's own package."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from export.foreign.bundle import OwnCheck
from export.graphs.compare_lists import compare_lists
from export.graphs.spec import SCORE_TOLERANCE
from export.model.arrays import Float64, Int64
from export.model.inputs import ExportInputs
from export.verify.runners import onnxruntime_runner
from serve.bundle.manifest import Check

N_USERS = 16
"""Users who are compared; some packages score a pair at a time."""

OwnScores = Callable[[Int64], Float64]
"""Rows of users, int64 [B] from 0 -> the model's own scores of all items, float [B, n_items]."""


def own_check(provider: str, own_scores: OwnScores, *, same_scores: bool = True) -> OwnCheck:
    """A check of `recommend.onnx` against a model's own scores, tie-aware.

    Args:
        provider: What is asked, such as "implicit.recommend"; its name in the parity report.
        own_scores: The scores.
        same_scores: Whether the graph must give the same scores; else the same order is enough. Users'
            biases don't order a list, and are left out of the scores of a model that ranks.
    """

    def check(folder: Path, inputs: ExportInputs) -> Check:
        users = inputs.sample.users[1 : 1 + N_USERS]
        exclude = inputs.sample.exclude[1 : 1 + N_USERS]
        run = onnxruntime_runner(folder, "cpu")
        found = run("recommend", {"user_index": users, "exclude_item_indices": exclude})
        own = np.asarray(own_scores(users - 1), np.float64)
        truth = np.column_stack([np.zeros(len(users)), own])  # index 0 is never listed
        indices, scores = found["top_item_indices"], found["top_scores"]
        if not same_scores:
            scores = np.where(indices > 0, np.take_along_axis(truth, indices, axis=1), scores)
        tolerance = SCORE_TOLERANCE * (float(np.abs(own).max()) or 1.0)
        errors, agreement = compare_lists(truth, exclude, indices, scores.astype(np.float64), tolerance)
        errors = np.minimum(np.nan_to_num(errors, nan=np.inf), np.finfo(np.float32).max)
        return Check(
            graph="recommend",
            provider=provider,
            n=len(users),
            max_error=float(errors.max()),
            mean_error=float(errors.mean()),
            tolerance=tolerance,
            passed=bool(errors.max() <= tolerance),
            list_agreement=agreement,
        )

    return check
