"""Whether later epochs of a training made the held-out metric worse."""

from __future__ import annotations

from collections.abc import Sequence

from recsys.training.run_info import Iteration, TrainingConfig

# Metric -> its name in sentences, and whether less of it is better; the first that was measured counts.
METRICS = {"valid_rmse": ("RMSE", True), "valid_ndcg_at_10": ("nDCG@10", False)}
NOTICEABLE = 1e-3
"""Relative change from which on a metric counts as worse."""


def overfitting_hint(history: Sequence[Iteration], config: TrainingConfig) -> str | None:
    """One sentence with the best epoch and what to change, where the last of all epochs is worse; else None.

    Best and worse are by the held-out RMSE (ratings), or by nDCG@10 of a part that learns to rank.
    """
    measured = [metric for metric in METRICS if all(metric in epoch.metrics for epoch in history)]
    if not (history and measured):
        return None
    name, less_is_better = METRICS[measured[0]]
    values = [epoch.metrics[measured[0]] for epoch in history]
    best = (min if less_is_better else max)(values)
    if abs(values[-1] - best) <= NOTICEABLE * abs(best):
        return None
    number = history[values.index(best)].number
    return (
        f"best at epoch {number} of {len(history)}: {name} {best:.4f}, at the end {values[-1]:.4f}. Later "
        f"epochs fit the training ratings, not the held-out ones: --epochs {number}, or more than "
        f"--weight-decay {config.weight_decay:g}"
    )
