"""The notebooks of examples/, run from an empty folder as a reader would."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["quickstart", "chapter8"])
def test_every_cell_runs(name: str, tmp_path: Path) -> None:
    command = [Path(sys.executable).with_name("jupyter-execute"), EXAMPLES / f"{name}.ipynb"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_notebooks_hold_no_output() -> None:
    notebooks = sorted(EXAMPLES.glob("*.ipynb"))
    assert len(notebooks) == 2
    for path in notebooks:
        assert '"outputs": []' in path.read_text()
        assert '"output_type"' not in path.read_text(), f"{path}: clear its output before it is committed"
