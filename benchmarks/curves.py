"""Draw how cost grows with size, from the tables that benchmarks have left: `results/curves.svg`.

python benchmarks/curves.py
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib as mpl
from matplotlib.figure import Figure
from publish import RESULTS

Row = dict[str, Any]


class Curve(NamedTuple):
    label: str
    column: str
    keep: Callable[[Row], bool] = lambda row: True


class Panel(NamedTuple):
    title: str
    benchmark: str
    size: str
    unit: str
    curves: tuple[Curve, ...]


def _calls(name: str) -> Callable[[Row], bool]:
    return lambda row: row["call"] == name


PANELS = (
    Panel(
        "One user's list",
        "query",
        "items",
        "ms",
        (
            Curve("recommend", "median ms (rounds)", _calls("recommend")),
            Curve("recommend, exact", "median ms (rounds)", _calls("recommend, exact")),
            Curve("implicit", "median ms (rounds)", _calls("implicit")),
        ),
    ),
    Panel(
        "A training step of 8,192 ratings",
        "training",
        "users",
        "ms",
        (
            Curve("whole tables", "whole tables, ms"),
            Curve("sparse", "sparse, ms"),
            Curve("bare memory traffic", "bare, ms"),
        ),
    ),
    Panel(
        "Export and opening",
        "export",
        "items",
        "s",
        (
            Curve("export", "export s"),
            Curve("bare product of its ranking", "product s"),
            Curve("first answer", "first answer s"),
            Curve("hashing the bundle", "hashing s"),
        ),
    ),
    Panel(
        "Batch jobs",
        "batch",
        "rows",
        "s",
        (
            Curve("score", "seconds", lambda row: row["job"] == "score"),
            Curve("recommend", "seconds", lambda row: row["job"] == "recommend"),
        ),
    ),
)


def main() -> None:
    figure = Figure(figsize=(9, 7), layout="constrained")
    for axis, panel in zip(figure.subplots(2, 2).flat, PANELS, strict=True):
        table = json.loads((RESULTS / f"{panel.benchmark}.json").read_text())[0]
        for curve in panel.curves:
            points = [(row[panel.size], _middle(row[curve.column])) for row in table if curve.keep(row)]
            points = [(size, value) for size, value in points if value]
            axis.plot(*zip(*points, strict=True), marker="o", markersize=3, label=curve.label)
        axis.set(xscale="log", yscale="log", title=panel.title, xlabel=panel.size, ylabel=panel.unit)
        axis.grid(alpha=0.3)
        axis.legend(fontsize="small")
    picture = RESULTS / "curves.svg"
    # Without a date and random ids, the same tables draw the same bytes.
    with mpl.rc_context({"svg.hashsalt": "curves"}):
        figure.savefig(picture, metadata={"Date": None})
    print(f"wrote {picture.relative_to(Path.cwd())}")


def _middle(cell: object) -> float:
    """The median of a cell with its spread, the number of one without; 0 where there is none."""
    if isinstance(cell, dict):
        return float(cell["median"])
    return cell if isinstance(cell, float) else 0.0


if __name__ == "__main__":
    main()
