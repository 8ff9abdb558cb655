"""Conformance cases in a real Chromium, on WebAssembly and on WebGPU; for the table in docs/runtimes.md."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import runtimes_table
from runtimes_table import GRAPHS, WITH_SHARDS

RUNTIMES = {"wasm": "ONNX Runtime Web, WASM", "webgpu": "ONNX Runtime Web, WebGPU"}


def same_graphs(one: Path, other: Path) -> bool:
    """Whether all graphs but `recommend_by_id` have the same bytes."""
    files = [
        {path.name: path.read_bytes() for path in bundle.glob("*.onnx") if path.stem != "recommend_by_id"}
        for bundle in (one, other)
    ]
    return files[0] == files[1]


# All graphs of all bundles; a software GPU takes seconds to compile each.
@pytest.mark.slow
@pytest.mark.parametrize("runtime", ["wasm", "webgpu"])
def test_the_browser_reproduces_the_conformance_cases(request, page_of, runtime) -> None:
    browser = request.getfixturevalue("chromium" if runtime == "wasm" else "chromium_with_webgpu")
    found: dict[str, dict[str, dict]] = {}  # model -> graph -> verdict
    for model, bundle in WITH_SHARDS.items():
        # The other graphs do not depend on ids, and a software GPU takes seconds to compile each.
        twins = [other for other in found if same_graphs(WITH_SHARDS[other], bundle)]
        graphs = ["recommend_by_id"] if twins else [graph.stem for graph in bundle.glob("*.onnx")]
        tab = browser.new_page()
        tab.goto(f"{page_of(model).url}/conformance.html?runtime={runtime}&graphs={','.join(graphs)}")
        tab.wait_for_selector("pre[aria-busy=false]")
        told = json.loads(tab.locator("pre").inner_text())
        tab.close()
        assert told.get("runtime") == {"wasm": "WebAssembly", "webgpu": "WebGPU"}[runtime], told
        found[model] = dict(found[twins[0]]) if twins else {}
        found[model] |= {verdict["graph"]: verdict for verdict in told["verdicts"]}
    for graph in GRAPHS:
        runtimes_table.check(RUNTIMES[runtime], graph, lambda model, graph=graph: found[model][graph])
