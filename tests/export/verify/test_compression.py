"""Bundles with packed tables: verified as any other, with what the rounding changes; who refuses them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from edit_bundles import edit_table
from fixture_bundles import RAW_ID_FIXTURES, edit_manifest

from export.add_items.add_items import add_items
from export.errors import ParityError
from export.model.packed_inputs import float_tables, pack_inputs
from export.model.pretrained import read_pretrained
from export.verify.compression import read_packed, table_bytes
from export.verify.verify import verify
from export.write.bundle import export_run
from export.write.run_inputs import load_run_inputs
from recsys.cli import cli
from recsys.errors import ConfigError
from serve.bundle.bundle import open_bundle
from serve.commands.inspect import inspect
from serve.errors import BundleError, UnsupportedError
from serve.files.names import TABLES_NAME
from serve.runtime.checked_graph import check_all
from serve.runtime.recommender import Recommender

PACKED = {"dot-int4": "dot", "mlp-fp16": "mlp", "parts-int8": "parts"}


@pytest.fixture
def copy(tmp_path):
    return lambda name: Path(shutil.copytree(RAW_ID_FIXTURES / name, tmp_path / name))


@pytest.mark.parametrize("name", [pytest.param("mlp-fp16", marks=pytest.mark.slow), "parts-int8"])
def test_a_bundle_agrees_with_its_run_and_says_what_it_costs(tiny_run, name) -> None:
    parity = verify(RAW_ID_FIXTURES / name, tiny_run(PACKED[name]))
    assert parity.passed
    assert (parity.checks[0].graph, parity.checks[0].provider) == ("tables", "rounding")
    found = parity.compression
    assert found is not None
    manifest = open_bundle(RAW_ID_FIXTURES / name).manifest
    assert manifest.parity.compression is not None
    assert (found.bytes, found.float32_bytes) == table_bytes(manifest.tables)
    assert found.bytes < found.float32_bytes
    assert 0.85 < found.list_overlap <= 1
    assert found.rmse == pytest.approx(found.float32_rmse, abs=0.01)
    assert found.rmse != found.float32_rmse
    assert {graph.precision for graph in manifest.graphs.values()} == {found.precision}


@pytest.mark.slow
def test_a_damaged_row_fails_and_so_does_another_run(tiny_run, copy) -> None:
    bundle = copy("parts-int8")

    def swap(codes: np.ndarray) -> None:
        codes[[5, 6]] = codes[[6, 5]]

    graphs = ("recommend", "fold_in", "recommend_by_id", "recommend_filtered", "fold_in_filtered", "explain")
    for graph in graphs:
        edit_table(bundle, graph, "ranking_item_factors", swap)
    parity = verify(bundle, tiny_run("parts"))
    failed = [(check.graph, check.provider) for check in parity.checks if not check.passed]
    # Graphs with the same damage agree; `variety` has the average user's scores, which follow from the table.
    others = [("tables", "file"), ("variety", "cpu"), ("variety", "onnx.reference")]
    assert failed == [("tables", "rounding"), *others]
    with pytest.raises(ParityError, match="not the same model"):
        verify(copy("dot-int4"), tiny_run("parts"))


def test_tables_are_read_back_as_numbers(tiny_run) -> None:
    bundle = open_bundle(RAW_ID_FIXTURES / "parts-int8")
    for name, packed in read_packed(bundle).items():
        np.testing.assert_array_equal(bundle.table(name), packed.numbers)
    exact = float_tables(load_run_inputs(tiny_run("parts")).inputs(10, raw_ids=False))
    assert set(read_packed(bundle)) == set(exact)
    np.testing.assert_allclose(bundle.table("item_factors"), exact["item_factors"], atol=0.03)


@pytest.mark.slow
def test_a_shared_file_and_the_fast_graph_take_packed_tables(tiny_run, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("export.write.tables_file.SMALLEST", 16)
    export_run(tiny_run("dot-bias"), tmp_path / "b", precision="int4", fast=True, tables_file="always")
    served = Recommender.load(tmp_path / "b", "cpu")
    check_all(served)
    table = next(one for one in served.manifest.tables if one.name == "item_factors")
    assert (table.dtype, table.shape, table.packing.columns) == ("uint8", [51, 3], 6)
    assert "recommend_fast" in table.graphs
    assert (tmp_path / "b" / TABLES_NAME).stat().st_size > 0
    assert verify(tmp_path / "b", tiny_run("dot-bias")).passed


def test_the_bytes_of_a_run_are_the_same_each_time(tiny_run) -> None:
    inputs = load_run_inputs(tiny_run("ranking")).inputs(10, raw_ids=False)
    first, second = (pack_inputs(inputs, "int4").packed for _ in range(2))
    for name, packed in first.items():
        np.testing.assert_array_equal(packed.codes, second[name].codes)


def test_inspect_and_export_say_it(tiny_run) -> None:
    result = CliRunner().invoke(inspect, [str(RAW_ID_FIXTURES / "parts-int8")])
    assert result.exit_code == 0, result.output
    assert "Tables of int8, " in result.output
    assert "of the 10 best items are the same (30 users); RMSE 1.89" in result.output
    assert "nDCG@10" in result.output
    with pytest.raises(ConfigError, match="precision must be one of fp32, fp16, int8, int4, got 'int5'"):
        export_run(tiny_run("dot"), Path("b"), precision="int5")
    wrong = CliRunner().invoke(cli, ["export", str(tiny_run("dot")), "--output", "b", "--precision", "int5"])
    assert wrong.exit_code == 2
    assert "'int5' is not one of 'fp32', 'fp16', 'int8', 'int4'" in wrong.output


def test_who_can_not_use_packed_tables_refuses_in_a_line(tmp_path) -> None:
    with pytest.raises(UnsupportedError, match=r"packed tables \(int4\).*--precision fp32"):
        add_items(RAW_ID_FIXTURES / "dot-int4", None, tmp_path / "more")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="not the weights of its mlp: start from its run"):
        read_pretrained(RAW_ID_FIXTURES / "mlp-fp16")
    start = read_pretrained(RAW_ID_FIXTURES / "dot-int4")
    assert start.state["item_factors"].dtype == np.float32


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda table: table["packing"].update(columns=1 << 40), "item_factors of .* should be uint8"),
        (lambda table: table["packing"].update(columns=7), "item_factors of .* should be uint8"),
        (lambda table: table["packing"].update(precision="int8"), "item_factors of .* should be int8"),
        (lambda table: table["packing"].update(precision="float32"), "item_factors of .* should be None"),
        (lambda table: table.update(graphs=[]) or table["packing"].update(columns=2), "should be uint8"),
    ],
)
def test_a_manifest_that_lies_about_packing_is_refused(copy, change, message) -> None:
    bundle = copy("dot-int4")

    def edit(manifest) -> None:
        change(next(table for table in manifest["tables"] if table["name"] == "item_factors"))

    edit_manifest(bundle, edit)
    with pytest.raises(BundleError, match=message):
        open_bundle(bundle)


def test_a_precision_that_is_none_is_refused(copy) -> None:
    bundle = copy("dot-int4")
    edit_manifest(bundle, lambda manifest: manifest["graphs"]["score"].update(precision="int3"))
    with pytest.raises(BundleError, match="the precision of score is 'int3'"):
        open_bundle(bundle)
    assert json.loads((bundle / "manifest.json").read_bytes())["parity"]["compression"]["precision"] == "int4"
