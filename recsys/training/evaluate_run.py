"""Evaluation of a run in torch."""

from __future__ import annotations

from functools import partial
from typing import Any

from recsys.evaluation.evaluate import DEFAULT_K, evaluate
from recsys.models.scoring import ranker, score_pairs
from recsys.training.checkpoint import Run
from recsys.training.device import DeviceName, choose_device


def evaluate_run(run: Run, k: int | None = None, device: DeviceName = "auto") -> dict[str, Any]:
    """Evaluate a run on the held-out ratings; see `recsys.evaluation.evaluate`. `k` is by default 10, or the
    number of items if that is less.

    Raises:
        CheckpointError: the run is damaged.
        ConfigError: k is below 1, or the device is not available.
    """
    chosen = choose_device(device)
    interactions = run.interactions()
    rank = ranker(run.ranking_model().to(chosen), interactions.n_items)
    score = None
    if run.info.part.objective == "ratings":
        score = partial(score_pairs, run.model().to(chosen))
    k = min(DEFAULT_K, interactions.n_items) if k is None else k
    return evaluate(interactions, run.split(), score, rank, k)
