"""Exporting a run: the bundle's files, their contents, and that the same run gives the same bytes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pyarrow.parquet as pq
import pytest
import tiny_runs
from click.testing import CliRunner

from export.errors import ParityError
from export.graphs import GRAPHS
from export.write.bundle import export_run
from export.write.graph_files import write_graphs
from export.write.run_inputs import load_run_inputs
from recsys.cli import cli
from recsys.training.settings import new_settings
from recsys.training.train import Machine, train
from serve.bundle.bundle import open_bundle
from serve.bundle.manifest_check import CALLED, SHARD_RATINGS, TOP_RATINGS
from serve.bundle.shards import MERGE, SHARD, role
from serve.errors import OutputError, RequestError
from serve.files.names import TABLES_NAME
from serve.runtime.profiles import Profiles
from serve.runtime.recommender import Recommender

N_GRAPHS = {"dot": 4, "dot-bias": 4, "dot-bias-string-ids": 4, "mlp": 3, "parts": 4, "ranking": 4}


@pytest.fixture(scope="module")
def exported(tiny_run, tmp_path_factory) -> Path:
    """The run "dot-bias", exported here."""
    folder = tmp_path_factory.mktemp("exported") / "bundle"
    export_run(tiny_run("dot-bias"), folder)
    return folder


@pytest.mark.parametrize("name", N_GRAPHS)
def test_a_bundle_holds_what_the_design_says(tiny_bundle, name) -> None:
    bundle = open_bundle(tiny_bundle(name))
    manifest = bundle.manifest
    assert len(manifest.graphs) == N_GRAPHS[name]
    folds_in = manifest.fold_in is not None or manifest.list_fold_in is not None
    assert ("fold_in" in manifest.graphs) == folds_in
    assert {"users.parquet", "items.parquet", "seen.parquet", "conformance.json"} < set(manifest.files)
    assert (manifest.model.n_users, manifest.model.n_items) == (30, 50)
    assert manifest.opset == 18
    assert manifest.parity.passed
    assert Recommender(bundle, "cpu").check() > len(manifest.graphs)
    for graph in manifest.graphs.values():
        model = onnx.load(bundle.path / graph.file)
        onnx.checker.check_model(model, full_check=True)
        assert [i.name for i in model.graph.input] == [tensor.name for tensor in graph.inputs]
        assert [o.name for o in model.graph.output] == [tensor.name for tensor in graph.outputs]
        assert {node.domain for node in model.graph.node} == {""}
        held = {tensor.name for tensor in model.graph.initializer}
        listed = {table.name for table in manifest.tables if graph.file[:-5] in table.graphs}
        assert listed <= held


def test_a_list_is_no_longer_than_the_bundle_ranks(tiny_run, tmp_path) -> None:
    """By default; a length that was asked for is refused, with the way to more."""
    export_run(tiny_run("dot-bias"), tmp_path / "short", top_k=3)
    recommender = Recommender.load(tmp_path / "short", "cpu")
    ids, several = recommender.users.ids(np.arange(1, 4)), recommender.items.ids.ids(np.arange(1, 3))
    profiles = Profiles.of(recommender)
    for answer in (
        lambda top_k: recommender.recommend(ids, top_k),
        lambda top_k: recommender.similar_items(several, top_k),
        lambda top_k: recommender.fold_in(several, [5.0, 1.0], top_k),
        lambda top_k: profiles.recommend(0, top_k),
    ):
        assert answer(None).scores.shape[-1] == 3
        with pytest.raises(RequestError, match=r"got 4\. Export with a larger --top-k"):
            answer(4)
    result = CliRunner().invoke(cli, ["similar", str(tmp_path / "short"), "--item-id", "1001"])
    assert len(result.output.splitlines()) == 4
    command = ["recommend", str(tmp_path / "short"), "--all-users", "--output", str(tmp_path / "lists")]
    assert CliRunner().invoke(cli, command).exit_code == 0


def test_ids_and_seen_items_are_in_index_order(tiny_bundle) -> None:
    folder = tiny_bundle("dot-bias-string-ids")
    data = tiny_runs.interactions(string_ids=True)
    assert pq.read_table(folder / "users.parquet")["user_id"].to_pylist() == data.users["user_id"].tolist()
    items = pq.read_table(folder / "items.parquet").to_pylist()
    assert [item["item_id"] for item in items] == data.items["item_id"].tolist()
    first = {"item_id": "item-1001", "title": "Movie 1, The (1951)", "genres": "Action", "year": 1951}
    assert items[0] == first
    assert items[6]["year"] is None
    seen = pq.read_table(folder / "seen.parquet")
    pairs = sorted(zip(data.user_index.tolist(), data.item_index.tolist(), strict=True))
    assert list(zip(seen["user_index"].to_pylist(), seen["item_index"].to_pylist(), strict=True)) == pairs


@pytest.mark.slow
def test_the_same_run_gives_the_same_bytes(exported, tiny_run, tmp_path) -> None:
    """Across paths, processes and hash seeds."""
    elsewhere = tmp_path / "some where else"
    shutil.copytree(tiny_run("dot-bias"), elsewhere / "runs" / "dot-bias")
    code = "from pathlib import Path; from export.write.bundle import export_run\n"
    code += "export_run(Path('runs', 'dot-bias'), Path('dot-bias'))"
    subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "PYTHONHASHSEED": "1"}, cwd=elsewhere, check=True
    )
    ours, theirs = (
        {path.name: path.read_bytes() for path in folder.iterdir()}
        for folder in (exported, elsewhere / "dot-bias")
    )
    assert ours.keys() == theirs.keys()
    for file, data in ours.items():
        assert data == theirs[file], file


def test_the_committed_fixture_is_what_the_exporter_writes(exported, tiny_bundle) -> None:
    """All but measured figures and versions: run `python tests/tiny_runs.py` after a change of the format."""
    fixture = tiny_bundle("dot-bias")
    assert {path.name for path in fixture.iterdir()} == {path.name for path in exported.iterdir()}
    for path in exported.iterdir():
        if path.name not in ("manifest.json", "bom.cdx.json"):  # the latter has versions, too
            assert path.read_bytes() == (fixture / path.name).read_bytes(), path.name
    found, expected = (json.loads((folder / "manifest.json").read_text()) for folder in (exported, fixture))
    for manifest in (found, expected):
        for varies in ("parity", "versions", "fold_in"):
            manifest.pop(varies)
    assert found == expected


@pytest.mark.parametrize("name", N_GRAPHS)
def test_optional_graphs_change_no_other_file(tiny_bundle, name) -> None:
    """So that all committed bundles are what the exporter writes: those with optional graphs are compared."""
    more, changed = (
        tiny_runs.RAW_ID_FIXTURES / name,
        {"manifest.json", "conformance.json", "README.md", "bom.cdx.json"},
    )
    for path in tiny_bundle(name).iterdir():
        if path.name not in changed:
            assert path.read_bytes() == (more / path.name).read_bytes(), path.name


def test_large_tables_lie_once_in_a_shared_file(tiny_run, tiny_bundle, tmp_path) -> None:
    inline, shared = tiny_bundle("dot-bias"), tmp_path / "shared"
    manifest = export_run(tiny_run("dot-bias"), shared, tables_file="always")
    assert TABLES_NAME in manifest.files
    open_bundle(shared)
    locations = {}
    for graph in manifest.graphs.values():
        model = onnx.load(shared / graph.file, load_external_data=False)
        for tensor in model.graph.initializer:
            entries = {entry.key: entry.value for entry in tensor.external_data}
            if entries:
                assert entries["location"] == TABLES_NAME
                assert int(entries["offset"]) % 4096 == 0
                locations.setdefault(tensor.name, set()).add(entries["offset"])
    assert all(len(offsets) == 1 for offsets in locations.values())
    assert "item_factors" in locations
    feeds = {"user_index": np.arange(31), "exclude_item_indices": np.zeros((31, 1), np.int64)}
    answers = [
        ort.InferenceSession(folder / "recommend.onnx", providers=["CPUExecutionProvider"]).run(None, feeds)
        for folder in (inline, shared)
    ]
    np.testing.assert_array_equal(answers[0][0], answers[1][0])


@pytest.mark.slow
def test_an_existing_bundle_is_only_replaced_when_asked(tiny_run, tiny_bundle, tmp_path) -> None:
    output = tmp_path / "bundle"
    shutil.copytree(tiny_bundle("dot"), output)
    before = {path.name: path.read_bytes() for path in output.iterdir()}
    with pytest.raises(OutputError, match="--overwrite"):
        export_run(tiny_run("mlp"), output)
    assert before == {path.name: path.read_bytes() for path in output.iterdir()}
    export_run(tiny_run("mlp"), output, overwrite=True)
    assert open_bundle(output).manifest.model.kind == "mlp"


def test_without_parity_nothing_is_written(tiny_run, tmp_path) -> None:
    """Arrays of another model than the module's: the graphs made from them do not agree with torch."""
    inputs = load_run_inputs(tiny_run("dot")).inputs(10, raw_ids=False)
    other = replace(inputs.arrays, item_factors=inputs.arrays.item_factors + np.float32(0.1))
    with pytest.raises(ParityError, match="recommend on cpu is off by"):
        write_graphs(tmp_path, replace(inputs, arrays=other), "never", lambda step: None)


SCALES = {"dot": (1e-5, 0), "dot-bias": (1, 3), "mlp": (1e5, 0)}


@pytest.mark.parametrize(
    ("kind", "scale", "offset"),
    [
        pytest.param(kind, *scale, marks=[] if (kind, scale) == ("dot-bias", (1, 3)) else pytest.mark.slow)
        for kind in SCALES
        for scale in SCALES.values()
    ],
)
def test_ratings_of_any_scale_are_exported_and_verified(tmp_path, kind, scale, offset) -> None:
    data = tiny_runs.interactions()
    data = replace(data, ratings=(data.ratings * scale + offset).astype(np.float32))
    settings = new_settings(kind, {"epochs": 2, "factors": 3} if kind != "mlp" else {"epochs": 2})
    train(data, settings, tmp_path / "run", machine=Machine("cpu", "off"))
    manifest = export_run(tmp_path / "run", tmp_path / "bundle")
    # An approximate fold-in may not beat the average user after so few epochs.
    assert set(manifest.left_out) <= ({"fold_in"} if kind == "mlp" else set())
    assert manifest.model.score_span >= 5 * np.float32(scale)
    assert manifest.parity.passed
    recommender = Recommender.load(tmp_path / "bundle", "cpu")
    assert recommender.check() >= 4
    assert Profiles.of(recommender).profiles


def test_every_graph_that_a_recommender_calls_has_the_tensors_that_it_uses() -> None:
    """`serve` must not import `export`, so it names those tensors itself."""
    specs = {role(spec.name): spec for spec in GRAPHS}
    for name, (inputs, outputs) in CALLED.items():
        assert {
            (one.name, one.dtype, len(one.shape)) for one in specs[name].inputs if not one.optional
        } == inputs
        assert outputs <= {
            (one.name, one.dtype, len(one.shape)) for one in specs[name].outputs if not one.optional
        }
    for name in ("recommend", "fold_in", SHARD, MERGE):
        assert TOP_RATINGS in {(one.name, one.dtype, len(one.shape)) for one in specs[name].outputs}
    assert SHARD_RATINGS in {(one.name, one.dtype, len(one.shape)) for one in specs[MERGE].inputs}
