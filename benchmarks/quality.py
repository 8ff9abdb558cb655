"""Quality of lists and predicted ratings, from the ONNX graphs of exported bundles.

    python benchmarks/quality.py [--only NAME ...] [--quick]

Every row trains on the training part of its protocol alone, exports a bundle, and measures the bundle through
onnxruntime. Lists: nDCG@10 over the whole catalogue without the training items, every held-out item relevant.
The table goes to docs/quality.md, the figures to benchmarks/results/quality.json.
"""

from __future__ import annotations

import argparse
import json
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import quality_protocols as protocols
from machine import describe_machine

RESULTS = Path(__file__).parent / "results" / "quality.json"
PAGE = Path(__file__).parent.parent / "docs" / "quality.md"
SEEDS = (42, 43, 44, 45, 46)


@dataclass(frozen=True)
class Row:
    """A line of the table."""

    measure: str
    protocol: str
    goal: str
    run: Callable[[tuple[int, ...]], dict[str, Any]]
    """Seeds -> metric -> value, one for each seed or fold."""


ROWS = {
    "by-user": Row(
        "nDCG@10",
        "ML-100K, stratified by user 75/25",
        ">= 0.492",
        protocols.ranked("stratified", "ml-100k-ranking"),
    ),
    "by-item": Row(
        "nDCG@10",
        "ML-100K, stratified by item 75/25",
        ">= 0.494 (seed 42)",
        protocols.ranked("stratified-by-item", "ml-100k-ranking"),
    ),
    "one-part": Row(
        "nDCG@10", "EASE alone, stratified by user 75/25", ">= 0.487", protocols.ranked("stratified", "ease")
    ),
    "folds": Row(
        "RMSE",
        "ML-100K, u1 to u5: history and attributes",
        "<= 0.877 (u1 0.882)",
        protocols.folds("ml-100k-ratings"),
    ),
    "folds-ids": Row(
        "RMSE",
        "ML-100K, u1 to u5: ids alone",
        "<= 0.897",
        protocols.folds("bayes", history=False, attributes=False),
    ),
    "embedded": Row(
        "RMSE; nDCG@10", "embedded data, default preset and split", "<= 0.812; >= 0.378", protocols.embedded
    ),
    "new-users": Row(
        "nDCG@10 folded in",
        "20 % of users held out whole, 80 % of their items given",
        ">= 99 % of retraining",
        protocols.new_users,
    ),
    "new-user-ratings": Row(
        "RMSE folded in",
        "held-out users, 1, 5, 20 given",
        "<= average user; <= retraining + 0.003",
        protocols.new_user_ratings,
    ),
    "new-items": Row(
        "RMSE of added items",
        "100 items held out whole, 5, 10, 20 given",
        "<= retraining + 0.005",
        protocols.new_items,
    ),
    "chronological": Row("RMSE; nDCG@10", "ML-100K, the latest fifth held out", "-", protocols.chronological),
    "dot-ranking": Row(
        "nDCG@10",
        "dot, --objective ranking, stratified by user",
        "-",
        protocols.ranked("stratified", "dot:ranking"),
    ),
    "mlp-ranking": Row(
        "nDCG@10",
        "mlp, --objective ranking, stratified by user",
        "-",
        protocols.ranked("stratified", "mlp:ranking"),
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", choices=ROWS, default=list(ROWS), metavar="NAME")
    parser.add_argument("--quick", action="store_true", help="One seed or fold of each row.")
    arguments = parser.parse_args()
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    for name in arguments.only:
        row, started = ROWS[name], time.perf_counter()
        found = row.run(SEEDS[:1] if arguments.quick else SEEDS)
        results[name] = {"measure": row.measure, "protocol": row.protocol, "goal": row.goal, "found": found}
        print(f"{name}: {summary(found)} ({time.perf_counter() - started:.0f} s)", flush=True)
        RESULTS.write_text(json.dumps(results, indent=2) + "\n")
    write_page(results)


def summary(found: dict[str, list[float]]) -> str:
    """Means, with the standard deviation where there are several."""
    shown = []
    for name, values in found.items():
        spread = f" ± {np.std(values, ddof=1):.4f}" if len(values) > 1 else ""
        shown.append(f"{name.replace('_', ' ')} {np.mean(values):.4g}{spread}")
    return ", ".join(shown)


def _values(result: dict[str, Any]) -> list[float]:
    """The values of the first metric, one for each seed or fold."""
    return next(iter(result["found"].values()))


def write_page(results: dict[str, Any]) -> None:
    """Replace the table in docs/quality.md."""
    lines = ["| measure | protocol | goal | measured |", "| --- | --- | --- | --- |"]
    for name in ROWS:
        if name in results:
            one = results[name]
            cells = (f"{one['measure']} (`{name}`)", one["protocol"], one["goal"], summary(one["found"]))
            lines.append(f"| {' | '.join(cells)} |")
    once = [f"`{name}`" for name in ROWS if name in results and len(_values(results[name])) == 1]
    if once:
        lines += ["", f"Measured once, with one seed: {', '.join(once)}."]
    table = "\n".join([*lines, "", describe_machine("torch", "onnxruntime-gpu", "numpy")])
    text = PAGE.read_text(encoding="utf-8")
    marked = re.compile(r"(<!-- table -->\n).*(<!-- end of table -->)", re.DOTALL)
    PAGE.write_text(marked.sub(lambda found: f"{found[1]}{table}\n{found[2]}", text), encoding="utf-8")


if __name__ == "__main__":
    main()
