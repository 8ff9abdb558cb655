"""Evaluation of a run in torch."""

from __future__ import annotations

from functools import partial
from typing import Any

from torch import nn

from recsys.evaluation.evaluate import DEFAULT_K, evaluate
from recsys.models.scoring import ranker, score_pairs
from recsys.training.checkpoint import Run
from recsys.training.device import DeviceName, choose_device


def evaluate_run(
    run: Run,
    k: int | None = None,
    device: DeviceName = "auto",
    *,
    models: tuple[nn.Module, nn.Module] | None = None,
) -> dict[str, Any]:
    """Evaluate a run on the held-out ratings; see `recsys.evaluation.evaluate`. `k` is by default 10, or the
    number of items if that is less. `models` are `run.model()` and `run.ranking_model()`, where they are
    loaded already; they are moved to the device.

    Raises:
        CheckpointError: the run is damaged.
        ConfigError: k is below 1, or the device is not available.
    """
    chosen = choose_device(device)
    interactions = run.interactions()
    model, ranking_model = models or (None, run.ranking_model())
    rank = ranker(ranking_model.to(chosen), interactions.n_items)
    score = None
    if run.info.part.objective == "ratings":
        score = partial(score_pairs, (model or run.model()).to(chosen))
    k = min(DEFAULT_K, interactions.n_items) if k is None else k
    return evaluate(interactions, run.split(), score, rank, k)
