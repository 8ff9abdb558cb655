"""The table of docs/runtimes.md, runtime x graph: the tests that try the runtimes write it.

A test that finds something else than what is committed writes what it found, and fails: look at the change,
and commit it. Nothing here needs torch or onnx.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from fixture_bundles import FIXTURES

PAGE = Path(__file__).parent.parent / "docs" / "runtimes.md"
BEGIN, END = "<!-- conformance table: begin -->", "<!-- conformance table: end -->"

# The small bundles with `recommend_by_id.onnx`: every kind of model, int64 and string ids.
BUNDLES = {name: FIXTURES.with_name("raw_id_bundles") / name for name in ("dot", "dot-bias", "mlp")}
BUNDLES["dot-bias, string ids"] = FIXTURES.with_name("raw_id_bundles") / "dot-bias-string-ids"

RUNTIMES = [
    "ONNX Runtime, Python",
    "onnx.reference",
    "ONNX Runtime, Node",
    "ONNX Runtime Web, WASM",
    "ONNX Runtime Web, WebGPU",
    "OpenVINO",
    "tract",
]
GRAPHS = ["score", "recommend", "similar_items", "fold_in", "recommend_by_id"]

# Steps coarse enough that another machine's last bits don't change the table.
STEPS = [1e-5, 1e-4, 1e-3]


def within(largest_error: float) -> str:
    """How far off an answer is, in words."""
    step = next(step for step in STEPS if largest_error <= step)
    return f"equal, {step:.0e}".replace("e-0", "e-")


def has_graph(model: str, graph: str) -> bool:
    """Whether the bundle of a model has a graph: an MLP has no closed form to fold in."""
    return (BUNDLES[model] / f"{graph}.onnx").exists()


def in_words(largest_error: float | None, unsupported: str | None) -> str:
    """What a cell says of one model."""
    if unsupported is not None:
        return f"not supported: {unsupported}"
    assert largest_error is not None
    return within(largest_error)


def record(runtime: str, graph: str, found: Mapping[str, str]) -> None:
    """Write what was found of each model to the table; fails where that changes it."""
    assert set(found) == {model for model in BUNDLES if has_graph(model, graph)}
    told = set(found.values())
    cell = told.pop() if len(told) == 1 else "; ".join(f"{model}: {text}" for model, text in found.items())
    cells = read()
    before = cells.get((runtime, graph))
    if cell != before:
        write({**cells, (runtime, graph): cell})
    assert cell == before, f"{PAGE.name} said {before!r} of {graph} in {runtime}; look at it and commit it"


def read() -> dict[tuple[str, str], str]:
    """(runtime, graph) -> what the page says."""
    rows = PAGE.read_text(encoding="utf-8").split(BEGIN)[1].split(END)[0].strip().splitlines()[2:]
    cells = {}
    for row in rows:
        runtime, *told = (cell.strip() for cell in row.strip("|").split("|"))
        cells.update({(runtime, graph): cell for graph, cell in zip(GRAPHS, told, strict=True) if cell})
    return cells


def write(cells: Mapping[tuple[str, str], str]) -> None:
    """Put the table into the page."""
    lines = [f"| runtime | {' | '.join(GRAPHS)} |", "| --- " * (len(GRAPHS) + 1) + "|"]
    for runtime in RUNTIMES:
        lines.append(f"| {runtime} | {' | '.join(cells.get((runtime, graph), '') for graph in GRAPHS)} |")
    before, rest = PAGE.read_text(encoding="utf-8").split(BEGIN)
    after = rest.split(END)[1]
    PAGE.write_text(before + BEGIN + "\n\n" + "\n".join(lines) + "\n\n" + END + after, encoding="utf-8")
