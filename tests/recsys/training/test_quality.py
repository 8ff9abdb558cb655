"""Rating error on real data: no worse than the course notes' own figures, and better than no model."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from recsys.data import load
from recsys.data.interactions import Interactions
from recsys.training.evaluate_run import evaluate_run
from recsys.training.settings import new_settings
from recsys.training.train import Machine, train

# benchmarks/bench_notes_quality.py measures the same over several seeds.
NOTES: dict[str, Any] = {"epochs": 5, "batch_size": 64, "learning_rate": 5e-3, "y_range": (0, 5.5)}


@pytest.fixture(scope="module")
def ml_100k() -> Interactions:
    if "ML100K_ZIP" not in os.environ:
        pytest.skip("ML100K_ZIP does not name MovieLens 100K's zip, which may not be passed on")
    return load("ml-100k", from_file=Path(os.environ["ML100K_ZIP"]))


@pytest.mark.slow  # four trainings; CI runs them
@pytest.mark.parametrize(
    ("kind", "asked", "bound"),
    [
        ("dot", {"factors": 50, "weight_decay": 0.01}, 0.945),
        ("dot-bias", {"factors": 50, "weight_decay": 0.0}, 0.976),
        ("dot-bias", {"factors": 50, "weight_decay": 0.1}, 0.9244),
        ("mlp", {"hidden_layers": [100, 50], "batch_norm": True, "weight_decay": 0.01}, 0.939),
    ],
)
def test_the_notes_settings_give_at_least_the_notes_figures(
    ml_100k: Interactions, tmp_path: Path, kind: str, asked: dict[str, Any], bound: float
) -> None:
    run = train(ml_100k, new_settings(kind, NOTES | asked), tmp_path / "run", machine=Machine("cpu"))
    assert run.info.metrics["rmse"] <= bound


@pytest.mark.slow
def test_dot_bias_beats_every_baseline(tmp_path: Path) -> None:
    settings = new_settings("dot-bias", {})
    run = train(load("ml-latest-small"), settings, tmp_path / "run", machine=Machine("cpu"))
    result = evaluate_run(run, device="cpu")
    # Seeds differ by 0.004; the biases alone are 0.02 worse.
    assert result["rmse"] < result["baselines"]["bias_only"]["rmse"] - 0.015
    assert result["baselines"]["bias_only"]["rmse"] < result["baselines"]["global_mean"]["rmse"] - 0.1


@pytest.mark.slow  # 300 draws of the sampler
def test_the_default_preset_beats_every_baseline_by_far(tmp_path: Path) -> None:
    run = train(load("ml-latest-small"), new_settings(None, {}), tmp_path / "run", machine=Machine("cpu"))
    result = evaluate_run(run, device="cpu")
    # Measured: RMSE 0.804 beside 0.872, nDCG@10 0.367 beside 0.192.
    assert result["rmse"] < result["baselines"]["bias_only"]["rmse"] - 0.05
    assert result["ndcg_at_k"] > 1.5 * result["baselines"]["popularity"]["ndcg_at_k"]
