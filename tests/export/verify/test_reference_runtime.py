"""Conformance cases in `onnx.reference`, the specification of the operators; for docs/runtimes.md."""

from __future__ import annotations

import pytest
import runtimes_table
from runtimes_table import BUNDLES, GRAPHS

from demos.python.conformance import check
from export.verify.runners import reference_runner
from serve.bundle.bundle import open_bundle


@pytest.mark.parametrize("graph", GRAPHS)
def test_the_reference_answers_as_the_conformance_cases_say(graph) -> None:
    found = {}
    for model, path in BUNDLES.items():
        if runtimes_table.has_graph(model, graph):
            run = reference_runner(path)
            verdict = check(open_bundle(path), graph, lambda *_, run=run: lambda feeds: run(graph, feeds))
            assert verdict.problem is None, (model, verdict)
            found[model] = runtimes_table.in_words(verdict.largest_error, verdict.unsupported)
    runtimes_table.record("onnx.reference", graph, found)
