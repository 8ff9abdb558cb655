"""Conformance cases in ONNX Runtime, OpenVINO and tract, recorded in the table of docs/runtimes.md."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import runtimes_table
from fixture_bundles import edit_manifest
from patience import PATIENCE
from runtimes_table import BUNDLES, GRAPHS, WITH_SHARDS

from demos.python.conformance import check
from demos.python.runners import RUNTIMES
from serve import open_bundle

NAMES = {"onnxruntime": "ONNX Runtime, Python", "openvino": "OpenVINO", "tract": "tract"}


@pytest.mark.parametrize("graph", GRAPHS)
@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_runtime_reproduces_the_conformance_cases(runtime, graph) -> None:
    def verdict_of(model):
        return check(open_bundle(WITH_SHARDS[model]), graph, RUNTIMES[runtime])._asdict()

    runtimes_table.check(NAMES[runtime], graph, verdict_of)


def test_the_table_has_no_empty_cell() -> None:
    cells = runtimes_table.read()
    assert set(cells) == {(name, graph) for name in runtimes_table.RUNTIMES for graph in GRAPHS}


@pytest.mark.parametrize(
    ("graph", "name"),
    [
        ("score", "score"),
        ("recommend", "top_item_indices"),
        ("similar_items", "top_scores"),
        ("fold_in", "user_factors"),
        ("recommend_by_id", "top_titles"),
        ("recommend_by_id", "known"),
    ],
)
def test_a_wrong_output_is_reported(graph, name) -> None:
    def wrong(path, outputs):
        run = RUNTIMES["onnxruntime"](path, outputs)

        def spoilt(feeds):
            found = run(feeds)
            return {**found, name: found[name][::-1] if found[name].ndim == 1 else found[name][:, ::-1]}

        return spoilt

    verdict = check(open_bundle(BUNDLES["dot-bias, string ids"]), graph, wrong)
    assert verdict.problem is not None
    assert "instead of" in verdict.problem


def test_the_command(tmp_path) -> None:
    bundle = Path(shutil.copytree(BUNDLES["mlp"], tmp_path / "bundle"))
    path = bundle / "conformance.json"
    document = json.loads(path.read_bytes())

    def run(graphs):
        path.write_text(json.dumps({**document, "graphs": graphs}))
        edit_manifest(bundle)
        line = [sys.executable, "-m", "demos.python.conformance", bundle]
        ended = subprocess.run(line, capture_output=True, text=True, timeout=PATIENCE)
        return ended.returncode, ended.stdout, ended.stderr

    code, stdout, stderr = run({name: rows for name, rows in document["graphs"].items() if name != "score"})
    assert (code, stderr) == (0, "")
    assert "recommend: equal, 2 cases within" in stdout
    assert "score: not compared: the bundle has no conformance cases for it\n" in stdout
    assert run({})[::2] == (1, "Error: nothing was compared.\n")
    document["graphs"]["score"][0]["outputs"]["score"]["data"][0] += 1
    code, stdout, _ = run(document["graphs"])
    assert code == 1
    assert "score: score is" in stdout
