"""Folders are the architecture: who may import whom is checked, not hoped for."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def test_import_directions_hold() -> None:
    lint = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([lint, "--no-cache"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_answering_loads_no_torch(tmp_path) -> None:
    bundle = ROOT / "tests" / "fixtures" / "bundles" / "dot-bias"
    code = (
        "import sys; from recsys.cli import cli;"
        f"cli.main(['recommend', {str(bundle)!r}, '--user-id', '10'], standalone_mode=False);"
        "heavy = {'torch', 'onnx', 'pandas', 'onnxscript'} & set(sys.modules);"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "Movie" in done.stdout


@pytest.mark.parametrize("word", ["import pickle", "allow_pickle", "from jax", "import jax"])
def test_no_pickle_and_no_jax(word) -> None:
    for package in ("recsys", "export", "serve", "demos"):
        for path in (ROOT / package).rglob("*.py"):
            assert word not in path.read_text(encoding="utf-8"), path
