"""What each default of training is worth: one setting changed at a time, on the embedded data set.

    python benchmarks/bench_settings.py [--seeds 3]

Each seed is another split, other weights and another order. Figures are of held-out ratings, after the last
epoch.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from pathlib import Path
from typing import Any

from publish import publish

from recsys.data import load
from recsys.data.interactions import Interactions
from recsys.training.settings import new_settings
from recsys.training.train import Machine, train

CASES: list[tuple[str, str, dict[str, Any]]] = [
    ("defaults", "dot-bias", {}),
    ("batch 64", "dot-bias", {"batch_size": 64}),
    ("batch 1024", "dot-bias", {"batch_size": 1024}),
    ("batch 4096", "dot-bias", {"batch_size": 4096}),
    ("weight decay 0", "dot-bias", {"weight_decay": 0.0}),
    ("weight decay 0.03", "dot-bias", {"weight_decay": 0.03}),
    ("weight decay 0.3", "dot-bias", {"weight_decay": 0.3}),
    ("10 factors", "dot-bias", {"factors": 10}),
    ("100 factors", "dot-bias", {"factors": 100}),
    ("3 epochs", "dot-bias", {"epochs": 3}),
    ("10 epochs", "dot-bias", {"epochs": 10}),
    ("learning rate 0.001", "dot-bias", {"learning_rate": 1e-3}),
    ("learning rate 0.02", "dot-bias", {"learning_rate": 2e-2}),
    ("y-range 0.5 to 5", "dot-bias", {"y_range": (0.5, 5.0)}),
    ("defaults", "dot", {}),
    ("weight decay 0.1", "dot", {"weight_decay": 0.1}),
    ("defaults", "mlp", {}),
    ("weight decay 0.01", "mlp", {"weight_decay": 0.01}),
    ("layers 100, 50 with batch norm", "mlp", {"hidden_layers": [100, 50], "batch_norm": True}),
    ("dropout 0.2", "mlp", {"dropout": 0.2}),
]


def measure(kind: str, asked: dict[str, Any], data: Interactions, seed: int) -> tuple[float, float, float]:
    """RMSE on the held-out part, mean squared error over the last epoch, seconds an epoch."""
    with tempfile.TemporaryDirectory() as folder:
        settings = new_settings(kind, {**asked, "seed": seed})
        run = train(data, settings, Path(folder) / "run", machine=Machine("cpu"))
    history = run.info.part.history
    metrics = history[-1].metrics
    return (
        metrics["valid_rmse"],
        metrics["train_loss"],
        statistics.median(epoch.seconds for epoch in history),
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    data = load("ml-latest-small")
    lines = [
        "# What each default of training is worth",
        "",
        f"`python benchmarks/bench_settings.py --seeds {arguments.seeds}`",
        "",
        "MovieLens latest-small, random 80/20, one setting changed at a time; medians over the seeds. "
        "The loss is the mean squared error over the last epoch, while training.",
        "",
        "| model | change | RMSE | lowest - highest | loss | seconds an epoch |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for change, kind, asked in CASES:
        measured = [measure(kind, asked, data, seed) for seed in range(1, 1 + arguments.seeds)]
        rmse, loss, seconds = (list(column) for column in zip(*measured, strict=True))
        lines.append(
            f"| {kind} | {change} | {statistics.median(rmse):.4f} | {min(rmse):.4f} - {max(rmse):.4f} "
            f"| {statistics.median(loss):.3f} | {statistics.median(seconds):.2f} |"
        )
        print(lines[-1], flush=True)
    publish("settings", "\n".join(lines))


if __name__ == "__main__":
    main()
