"""The table of docs/runtimes.md, runtime x graph, which the tests of the runtimes check.

A test whose result differs from the table writes the result into it and fails: review and commit the change.
Nothing here needs torch or onnx.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from fixture_bundles import FIXTURES

PAGE = Path(__file__).parent.parent / "docs" / "runtimes.md"
BEGIN, END = "<!-- conformance table: begin -->", "<!-- conformance table: end -->"

# The small bundles with every graph: all kinds of model, int64 and string ids.
RAW_ID_BUNDLES = FIXTURES.with_name("raw_id_bundles")
BUNDLES = {name: RAW_ID_BUNDLES / name for name in ("dot", "dot-bias", "mlp", "parts", "ranking")}
BUNDLES["dot-bias, string ids"] = RAW_ID_BUNDLES / "dot-bias-string-ids"
BUNDLES |= {name: RAW_ID_BUNDLES / name for name in ("dot-int4", "mlp-fp16", "parts-int8")}
# Shards take the place of `recommend`.
WITH_SHARDS = BUNDLES | {name: RAW_ID_BUNDLES / name for name in ("dot-bias-shards", "parts-int8-shards")}

RUNTIMES = [
    "ONNX Runtime, Python",
    "onnx.reference",
    "ONNX Runtime, Node",
    "ONNX Runtime Web, WASM",
    "ONNX Runtime Web, WebGPU",
    "OpenVINO",
    "tract",
]
GRAPHS = [
    "score",
    "recommend",
    "similar_items",
    "fold_in",
    "recommend_by_id",
    "recommend_filtered",
    "fold_in_filtered",
    "explain",
    "variety",
    "recommend_shard_1",
    "merge",
]

# Steps coarse enough that another machine's last bits don't change the table.
STEPS = {1e-5: "1e-5", 1e-4: "1e-4", 1e-3: "1e-3"}


def has_graph(model: str, graph: str) -> bool:
    """Whether the bundle of a model has a graph: an MLP has no closed form to fold in."""
    return (WITH_SHARDS[model] / f"{graph}.onnx").exists()


def check(runtime: str, graph: str, verdict_of: Callable[[str], Mapping[str, Any]]) -> None:
    """Check that every bundle's conformance cases are answered, with the results of the table.

    Args:
        runtime: One of RUNTIMES.
        graph: One of GRAPHS.
        verdict_of: The verdict about a bundle, by the name of its model.
    """
    told = {}
    for model in WITH_SHARDS:
        if has_graph(model, graph):
            verdict = verdict_of(model)
            assert verdict["problem"] is None, (model, verdict)
            assert verdict["n_cases"] > 0
            if (why := verdict["unsupported"]) is not None:
                told[model] = f"not supported: {why}"
            else:
                step = next(words for step, words in STEPS.items() if verdict["largest_error"] <= step)
                told[model] = f"equal, {step}"
    every = set(told.values())
    cell = every.pop() if len(every) == 1 else "; ".join(f"{model}: {text}" for model, text in told.items())
    cells = read()
    before = cells.get((runtime, graph))
    if cell != before:
        write({**cells, (runtime, graph): cell})
    assert cell == before, f"{PAGE.name} said {before!r} of {graph} in {runtime}; look at it and commit it"


def read() -> dict[tuple[str, str], str]:
    """(runtime, graph) -> the cell of the table."""
    rows = PAGE.read_text(encoding="utf-8").split(BEGIN)[1].split(END)[0].strip().splitlines()[2:]
    cells = {}
    for row in rows:
        runtime, *told = (cell.strip() for cell in row.strip("|").split("|"))
        cells.update({(runtime, graph): cell for graph, cell in zip(GRAPHS, told, strict=True) if cell})
    return cells


def write(cells: Mapping[tuple[str, str], str]) -> None:
    """Replace the table."""
    lines = [f"| runtime | {' | '.join(GRAPHS)} |", "| --- " * (len(GRAPHS) + 1) + "|"]
    for runtime in RUNTIMES:
        lines.append(f"| {runtime} | {' | '.join(cells.get((runtime, graph), '') for graph in GRAPHS)} |")
    before, rest = PAGE.read_text(encoding="utf-8").split(BEGIN)
    after = rest.split(END)[1]
    PAGE.write_text(before + BEGIN + "\n\n" + "\n".join(lines) + "\n\n" + END + after, encoding="utf-8")
