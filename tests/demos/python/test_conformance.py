"""Golden rows in ONNX Runtime, OpenVINO and tract; the table in docs/runtimes.md says what came out."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
import runtimes_table
from patience import PATIENCE
from runtimes_table import BUNDLES, GRAPHS

from demos.python.conformance import check
from demos.python.runners import RUNTIMES
from serve.bundle.bundle import open_bundle

NAMES = {"onnxruntime": "ONNX Runtime, Python", "openvino": "OpenVINO", "tract": "tract"}


@pytest.mark.parametrize("graph", GRAPHS)
@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_runtime_answers_as_the_conformance_cases_say(runtime, graph) -> None:
    found = {}
    for model in BUNDLES:
        if runtimes_table.has_graph(model, graph):
            verdict = check(open_bundle(BUNDLES[model]), graph, RUNTIMES[runtime])
            assert verdict.problem is None, (model, verdict)
            found[model] = runtimes_table.in_words(verdict.largest_error, verdict.unsupported)
    runtimes_table.record(NAMES[runtime], graph, found)


def test_every_runtime_has_said_something_of_every_graph() -> None:
    cells = runtimes_table.read()
    missing = [
        (name, graph) for name in runtimes_table.RUNTIMES for graph in GRAPHS if not cells[name, graph]
    ]
    assert not missing
    assert len(cells) == len(runtimes_table.RUNTIMES) * len(GRAPHS)


@pytest.mark.parametrize(
    ("graph", "name"),
    [
        ("score", "score"),
        ("recommend", "top_item_indices"),
        ("similar_items", "top_scores"),
        ("fold_in", "user_factors"),
        ("recommend_by_id", "top_item_ids"),
        ("recommend_by_id", "top_titles"),
        ("recommend_by_id", "known"),
    ],
)
def test_a_wrong_answer_is_noticed(graph, name) -> None:
    def wrong(path, outputs):
        run = RUNTIMES["onnxruntime"](path, outputs)

        def spoilt(feeds):
            found = run(feeds)
            found[name] = found[name][::-1] if name in ("score", "known") else found[name][:, ::-1]
            return found

        return spoilt

    verdict = check(open_bundle(BUNDLES["dot-bias, string ids"]), graph, wrong)
    assert verdict.problem is not None
    assert "instead of" in verdict.problem


def command(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "demos.python.conformance", *map(str, arguments)]
    return subprocess.run(line, capture_output=True, text=True, timeout=PATIENCE)


def test_the_command_tells_and_exits_with_1_where_an_answer_is_wrong(tmp_path) -> None:
    good = command(BUNDLES["mlp"])
    assert good.returncode == 0, good.stderr
    assert "recommend: equal, 2 cases within" in good.stdout
    spoilt = Path(shutil.copytree(BUNDLES["mlp"], tmp_path / "bundle"))
    golden = msgspec.json.decode((spoilt / "conformance.json").read_bytes())
    golden["graphs"]["score"][0]["outputs"]["score"]["data"][0] += 1
    data = msgspec.json.encode(golden)
    (spoilt / "conformance.json").write_bytes(data)
    refused = command(spoilt)
    assert refused.returncode == 1
    assert "conformance.json" in refused.stderr
    forge(spoilt, data)
    wrong = command(spoilt)
    assert wrong.returncode == 1
    assert "score: score is" in wrong.stdout


def test_a_graph_without_conformance_cases_is_named(tmp_path) -> None:
    bundle = Path(shutil.copytree(BUNDLES["mlp"], tmp_path / "bundle"))
    golden = msgspec.json.decode((bundle / "conformance.json").read_bytes())
    del golden["graphs"]["score"]
    data = msgspec.json.encode(golden)
    (bundle / "conformance.json").write_bytes(data)
    forge(bundle, data)
    done = command(bundle)
    assert done.returncode == 0, done.stderr
    assert "score: not compared: the bundle has no conformance cases for it\n" in done.stdout
    assert "recommend: equal, 2 cases" in done.stdout
    data = msgspec.json.encode({**golden, "graphs": {}})
    (bundle / "conformance.json").write_bytes(data)
    forge(bundle, data)
    done = command(bundle)
    assert (done.returncode, done.stderr) == (1, "Error: nothing was compared.\n")


def forge(bundle: Path, data: bytes) -> None:
    """Have the manifest list these bytes of `conformance.json`."""
    import hashlib

    manifest = msgspec.json.decode((bundle / "manifest.json").read_bytes())
    entry = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    manifest["files"]["conformance.json"] = entry
    (bundle / "manifest.json").write_bytes(msgspec.json.encode(manifest))
