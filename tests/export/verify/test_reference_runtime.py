"""Conformance cases in `onnx.reference`, the specification of the operators; for docs/runtimes.md."""

from __future__ import annotations

import pytest
import runtimes_table
from runtimes_table import GRAPHS, WITH_SHARDS

from demos.python.conformance import check
from export.verify.runners import reference_runner
from serve.bundle.bundle import open_bundle


@pytest.mark.parametrize("graph", GRAPHS)
def test_the_reference_answers_as_the_conformance_cases_say(graph) -> None:
    def verdict_of(model):
        run = reference_runner(WITH_SHARDS[model])
        opened = open_bundle(WITH_SHARDS[model])
        return check(opened, graph, lambda *_: lambda feeds: run(graph, feeds))._asdict()

    runtimes_table.check("onnx.reference", graph, verdict_of)
