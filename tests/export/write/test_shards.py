"""`recsys export --shards`: what it writes, and what it refuses."""

from __future__ import annotations

import json

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from fixture_bundles import FIXTURES, RAW_ID_FIXTURES

from export.verify.verify import verify
from export.write.bundle import export_run
from recsys.cli import cli
from recsys.errors import ConfigError
from serve.files.names import TABLES_NAME
from serve.runtime.recommender import Recommender

USERS = np.arange(31)


def test_the_committed_fixture_is_what_the_exporter_writes(tiny_run, tmp_path) -> None:
    """Of three shards, by the command; see test_bundle.py."""
    arguments = ["export", tiny_run("dot-bias"), "--output", tmp_path / "bundle", "--shards", 3]
    result = CliRunner().invoke(cli, list(map(str, arguments)))
    assert result.exit_code == 0, result.output
    fixture = RAW_ID_FIXTURES / "dot-bias-shards"
    assert {path.name for path in fixture.iterdir()} == {
        path.name for path in (tmp_path / "bundle").iterdir()
    }
    for path in [*fixture.glob("*.onnx"), fixture / "conformance.json"]:
        assert path.read_bytes() == (tmp_path / "bundle" / path.name).read_bytes(), path.name
    found, expected = (
        json.loads((folder / "manifest.json").read_text()) for folder in (tmp_path / "bundle", fixture)
    )
    assert found["graphs"] == expected["graphs"]
    assert found["tables"] == expected["tables"]


@pytest.mark.slow
def test_an_mlp_in_shards_whose_tables_lie_apart(tiny_run, tmp_path) -> None:
    """Each shard's rows are in pages of their own, and no graph of a shard refers to another's."""
    options = {"filtered": True, "variety": True}
    manifest = export_run(tiny_run("mlp"), tmp_path / "bundle", shards=2, tables_file="always", **options)
    assert manifest.parity.passed
    assert [check.graph for check in manifest.parity.checks].count("merge") >= 2
    places = set()
    for number in range(2):
        model = onnx.load(tmp_path / "bundle" / f"recommend_shard_{number}.onnx", load_external_data=False)
        tables = [tensor for tensor in model.graph.initializer if "item_" in tensor.name]
        assert [table.name for table in tables] == [f"item_hidden_shard_{number}"]
        external = {one.key: one.value for one in tables[0].external_data}
        assert external["location"] == TABLES_NAME
        assert int(external["offset"]) % 4096 == 0
        places.add(external["offset"])
    assert len(places) == 2
    found, whole = (Recommender.load(path, "cpu") for path in (tmp_path / "bundle", FIXTURES / "mlp"))
    assert found.manifest.graphs["merge"].top_k == 50
    np.testing.assert_array_equal(found.rank(USERS, 50).indices, whole.rank(USERS, 50).indices)


@pytest.mark.parametrize(
    ("n_shards", "message"),
    [
        (1, "2 to 64 shards, not 1"),
        (65, "2 to 64 shards, not 65"),
        (51, "51 shards need as many items, and the run has 50"),
    ],
)
def test_numbers_of_shards_that_are_refused(tiny_run, tmp_path, n_shards, message) -> None:
    with pytest.raises(ConfigError, match=message):
        export_run(tiny_run("dot"), tmp_path / "bundle", shards=n_shards)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("bundle", "run"),
    [
        pytest.param("dot-bias-shards", "dot-bias", marks=pytest.mark.slow),
        ("parts-int8-shards", "parts"),
    ],
)
def test_verify_compares_every_shard(tiny_run, bundle, run) -> None:
    parity = verify(RAW_ID_FIXTURES / bundle, tiny_run(run))
    assert parity.passed
    graphs = {check.graph for check in parity.checks}
    assert {"recommend_shard_0", "recommend_shard_1", "recommend_shard_2", "merge"} < graphs
    assert "recommend" not in graphs


@pytest.mark.slow
def test_items_that_are_added_later_are_in_a_shard(tmp_path) -> None:
    """The bundle has as many shards as before, cut anew."""
    base, more = RAW_ID_FIXTURES / "dot-bias-shards", tmp_path / "more"
    (tmp_path / "new.csv").write_text("user_id,item_id,rating\n10,5000,5\n20,5000,5\n30,5001,1\n40,5000,4\n")
    arguments = ["add-items", base, "--ratings", tmp_path / "new.csv", "--output", more]
    result = CliRunner().invoke(cli, list(map(str, arguments)))
    assert result.exit_code == 0, result.output
    graphs = Recommender.load(more, "cpu").manifest.graphs
    ranges = [graphs[f"recommend_shard_{number}"].items for number in range(3)]
    assert ranges == [(1, 18), (18, 35), (35, 53)]
    before, after = (Recommender.load(path, "cpu").rank(USERS, 50) for path in (base, more))
    assert 51 in after.indices
    for old, new in zip(before.indices, after.indices, strict=True):
        kept = new[(new > 0) & (new <= 50)]
        np.testing.assert_array_equal(kept, old[: len(kept)])
