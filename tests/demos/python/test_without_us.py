"""The ten-line scripts, in an environment that holds numpy and onnxruntime, and nothing else."""

from __future__ import annotations

import json
import os
import subprocess
import venv
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from runtimes_table import BUNDLES

from serve.recommender import Recommender

DEMOS = Path(__file__).parents[3] / "demos" / "python"


@pytest.fixture(scope="module")
def bare_python(tmp_path_factory) -> Path:
    """An interpreter that finds two packages and the standard library."""
    folder = tmp_path_factory.mktemp("bare") / "venv"
    venv.create(folder, with_pip=False, symlinks=os.name != "nt")
    (site,) = folder.glob("lib/python*/site-packages")
    for package in (np, onnxruntime):
        home = Path(package.__file__).parent
        (site / home.name).symlink_to(home)
        libraries = home.with_name(f"{home.name}.libs")
        if libraries.exists():
            (site / libraries.name).symlink_to(libraries)
    return folder / "bin" / "python"


def run(python: Path, *arguments: str | Path) -> str:
    done = subprocess.run(
        [python, "-I", *map(str, arguments)], capture_output=True, text=True, timeout=60, cwd=python.parent
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_nothing_else_is_there(bare_python) -> None:
    code = (
        "import json, pkgutil, sys; import numpy, onnxruntime;"
        "print(json.dumps([m.name for m in pkgutil.iter_modules()"
        " if m.name not in sys.stdlib_module_names and 'site-packages' in m.module_finder.path]))"
    )
    assert json.loads(run(bare_python, "-c", code)) == ["numpy", "onnxruntime"]


@pytest.mark.parametrize("name", BUNDLES)
def test_recommends_by_index(bare_python, name) -> None:
    rows = run(bare_python, DEMOS / "recommend.py", BUNDLES[name], "3").splitlines()
    wanted = Recommender.load(BUNDLES[name], "cpu").recommend_indices(np.array([3]), np.zeros((1, 1), int))
    assert [int(row.split("\t")[0]) for row in rows] == wanted[0][0, :10].tolist()
    found = [float(row.split("\t")[1]) for row in rows]
    np.testing.assert_allclose(found, wanted[1][0, :10], atol=1e-5)


@pytest.mark.parametrize("name", BUNDLES)
def test_recommends_by_id(bare_python, name) -> None:
    served = Recommender.load(BUNDLES[name], "cpu")
    user_id = served.users.one_id(3)
    rows = run(bare_python, DEMOS / "recommend_by_id.py", BUNDLES[name], str(user_id)).splitlines()
    wanted = served.recommend(user_id, 50, exclude_seen=False)
    assert [row.split("\t")[0] for row in rows] == [str(item_id) for item_id in wanted.item_ids]
    assert [row.split("\t")[2] for row in rows] == [served.items.label(i) for i in wanted.item_indices]


def test_the_script_is_ten_lines() -> None:
    lines = (DEMOS / "recommend.py").read_text(encoding="utf-8").splitlines()
    assert len([line for line in lines[1:] if line]) <= 10
