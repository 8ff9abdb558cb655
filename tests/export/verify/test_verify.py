"""Verification sees what it must see, and only that."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from edit_bundles import edit_table

from export.commands.verify import verify as verify_command
from export.errors import ParityError
from export.model.inputs import ExportInputs
from export.verify.verify import Initializers, build_graphs, verify, verify_folder
from export.write.run_inputs import load_run_inputs
from export.write.tables_file import initializers
from serve.bundle.bundle import open_bundle
from serve.bundle.manifest import Parity


@pytest.fixture
def copy(tiny_bundle, tmp_path):
    def make(name: str) -> Path:
        shutil.copytree(tiny_bundle(name), tmp_path / name)
        return tmp_path / name

    return make


@pytest.fixture(scope="module")
def compared(tiny_run, tiny_bundle) -> Callable[[Path], Parity]:
    """`verify` of copies, where the run of each name is read once."""

    @cache
    def of_run(name: str) -> tuple[ExportInputs, Initializers]:
        manifest = open_bundle(tiny_bundle(name)).manifest
        inputs = load_run_inputs(tiny_run(name)).inputs(
            50,
            raw_ids=False,
            fold_in=(manifest.fold_in, manifest.list_fold_in),
            similar=manifest.similar_items,
        )
        return inputs, {graph: initializers(model) for graph, model in build_graphs(inputs).items()}

    def compare(bundle: Path) -> Parity:
        inputs, expected = of_run(bundle.name)
        return verify_folder(bundle, expected, inputs)

    return compare


def add(array: np.ndarray) -> None:
    """Add 1e-3 to every entry, in place."""
    array += 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("name", ["dot-bias", "mlp"])
def test_an_untouched_bundle_passes(tiny_run, tiny_bundle, name) -> None:
    parity = verify(tiny_bundle(name), tiny_run(name))
    assert parity.passed
    asked = {(check.graph, check.provider) for check in parity.checks}
    graphs = {"score", "recommend", "similar_items"} | ({"fold_in"} if name != "mlp" else set())
    providers = {"cpu", "onnx.reference"}
    assert {(graph, provider) for graph in graphs for provider in providers} <= asked


@pytest.mark.parametrize(
    ("name", "graph", "table"),
    [
        ("dot-bias", "score", "item_biases"),
        ("dot-bias", "recommend", "item_factors"),
        ("dot-bias", "similar_items", "item_directions"),
        ("dot-bias", "fold_in", "item_factors"),
        ("mlp", "score", "layers.0.weight"),
        ("mlp", "recommend", "item_hidden"),
    ],
)
def test_one_entry_off_by_1e_3_fails(compared, copy, name, graph, table) -> None:
    bundle = copy(name)
    edit_table(bundle, graph, table, lambda array: add(array[3:4, :1]))
    parity = compared(bundle)
    assert not parity.passed
    tables = next(check for check in parity.checks if check.graph == "tables")
    # Relative to the largest entry of the table, which is near 1.
    assert tables.max_error == pytest.approx(1e-3, rel=0.9)


def test_a_whole_table_off_by_1e_3_is_seen_in_the_answers_too(compared, copy) -> None:
    bundle = copy("dot-bias")
    edit_table(bundle, "recommend", "item_biases", add)
    failed = {check.graph for check in compared(bundle).checks if not check.passed}
    assert failed == {"tables", "recommend"}


def test_a_broken_tie_passes(compared, copy) -> None:
    """One unit in the last place may turn two equal items around; that is no difference."""
    bundle = copy("dot-bias")
    up = np.float32(np.inf)
    edit_table(bundle, "recommend", "item_biases", lambda array: np.nextafter(array, up, out=array))
    assert compared(bundle).passed


def test_another_models_run_is_refused(tiny_run, tiny_bundle) -> None:
    with pytest.raises(ParityError, match="not the same model"):
        verify(tiny_bundle("dot"), tiny_run("mlp"))


@pytest.mark.slow
def test_the_command_reports_and_fails(tiny_run, copy) -> None:
    bundle, run = copy("dot-bias"), tiny_run("dot-bias")
    good = CliRunner().invoke(verify_command, [str(bundle), "--run", str(run), "--json"])
    assert good.exit_code == 0
    assert json.loads(good.stdout)["passed"] is True
    edit_table(bundle, "score", "user_biases", lambda array: add(array[1]))
    bad = CliRunner().invoke(verify_command, [str(bundle), "--run", str(run), "--json"])
    assert isinstance(bad.exception, ParityError)
    assert "tables on file is off by 0.00" in str(bad.exception)
    assert json.loads(bad.stdout)["passed"] is False


@pytest.mark.slow
@pytest.mark.parametrize("options", [[], ["--json"]])
def test_the_exit_code_says_the_same_to_a_reader_that_has_left(tiny_run, copy, options: list[str]) -> None:
    bundle, run = copy("dot-bias"), tiny_run("dot-bias")

    def exit_code() -> int:
        reads, writes = os.pipe()
        os.close(reads)
        command = [sys.executable, "-m", "recsys", "verify", str(bundle), "--run", str(run), *options]
        done = subprocess.run(command, stdout=writes, stderr=subprocess.PIPE, text=True, check=False)
        os.close(writes)
        assert "Traceback" not in done.stderr
        return done.returncode

    if not options:  # each is a process that imports torch
        assert exit_code() == 0
    edit_table(bundle, "score", "user_biases", lambda array: add(array[1]))
    assert exit_code() == 1
