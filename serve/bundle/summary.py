"""The quality of a model in one sentence."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def summary(metrics: Mapping[str, Any]) -> str | None:
    """Compare the metrics of a model with those of its baselines, in words.

    `metrics` are `Manifest.metrics`, or what `recsys evaluate` returns. None: they have nothing to compare.
    """
    if metrics.get("n_held_out") == 0:
        return "Nothing was held out of the training, so nothing is measured."
    clauses = []
    if (ratio := _ratio(metrics, "ndcg_at_k", "popularity")) is not None:
        clauses.append(f"ranks {_compare(ratio - 1)} popularity")
    if (ratio := _ratio(metrics, "rmse", "bias_only")) is not None:
        clauses.append(f"predicts ratings {_compare(1 - ratio)} biases")
    if not clauses:
        return None
    users = "For new users, the" if isinstance(metrics.get("new_users"), Mapping) else "The"
    return f"{users} model {', and '.join(clauses)}."


def _ratio(metrics: Mapping[str, Any], name: str, baseline: str) -> float | None:
    """A metric as a multiple of the baseline's. None: one is no number, or the baseline's is not above 0."""
    found: Any = metrics.get("baselines")
    for key in (baseline, name):
        found = found.get(key) if isinstance(found, Mapping) else None
    value = metrics.get(name)
    if not all(isinstance(number, (int, float)) and abs(number) < 1e18 for number in (value, found)):
        return None
    return value / found if found > 0 else None


def _compare(gain: float) -> str:
    """`gain` is a share of the baseline's value; above 0: better."""
    percent = round(100 * gain)
    if not percent:
        return "as well as"
    return f"{abs(percent):,} % {'better' if percent > 0 else 'worse'} than"
