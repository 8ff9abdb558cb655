"""Golden rows in a real Chromium, on WebAssembly and on WebGPU; for the table in docs/runtimes.md."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import runtimes_table
from runtimes_table import BUNDLES, GRAPHS

RUNTIMES = {"wasm": "ONNX Runtime Web, WASM", "webgpu": "ONNX Runtime Web, WebGPU"}


def same_graphs(one: Path, other: Path) -> bool:
    """Whether all graphs but the one with the ids are the same bytes."""
    files = [
        {path.name: path.read_bytes() for path in bundle.glob("*.onnx") if path.stem != "recommend_by_id"}
        for bundle in (one, other)
    ]
    return files[0] == files[1]


@pytest.fixture(scope="module", params=RUNTIMES)
def verdicts(request, page_of):
    """The runtime's name, and model -> graph -> what the page says."""
    browser = request.getfixturevalue("chromium" if request.param == "wasm" else "chromium_with_webgpu")
    found = {}
    for model, bundle in BUNDLES.items():
        # Ids change nothing in the other graphs, and a software GPU takes seconds to compile each.
        twins = [other for other in found if same_graphs(BUNDLES[other], bundle)]
        graphs = ["recommend_by_id"] if twins else [graph.stem for graph in bundle.glob("*.onnx")]
        tab = browser.new_page()
        query = f"runtime={request.param}&graphs={','.join(graphs)}"
        tab.goto(f"{page_of(model).url}/conformance.html?{query}")
        tab.wait_for_selector("pre[aria-busy=false]")
        told = json.loads(tab.locator("pre").inner_text())
        tab.close()
        assert told.get("runtime") == {"wasm": "WebAssembly", "webgpu": "WebGPU"}[request.param], told
        found[model] = {verdict["graph"]: verdict for verdict in told["verdicts"]}
        for twin in twins:
            found[model] = {**found[twin], **found[model]}
    return RUNTIMES[request.param], found


@pytest.mark.parametrize("graph", GRAPHS)
def test_the_browser_answers_as_the_conformance_cases_say(verdicts, graph) -> None:
    runtime, of_model = verdicts
    found = {}
    for model in BUNDLES:
        if runtimes_table.has_graph(model, graph):
            verdict = of_model[model][graph]
            assert verdict["problem"] is None
            assert verdict["n_cases"] > 0
            found[model] = runtimes_table.in_words(verdict["largest_error"], verdict["unsupported"])
    runtimes_table.record(runtime, graph, found)
