"""The short scripts, in an environment with numpy and onnxruntime only."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import venv
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import runtimes_table
from patience import PATIENCE
from runtimes_table import BUNDLES

from serve import Recommender

DEMOS = Path(__file__).parents[3] / "demos" / "python"


@pytest.fixture(scope="module")
def bare_python(tmp_path_factory) -> Path:
    """An interpreter that finds numpy, onnxruntime and the standard library only."""
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
        [python, "-I", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        cwd=python.parent,
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
    wanted = Recommender.load(BUNDLES[name], "cpu").rank(np.array([3]), exclude_seen=False)
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


@pytest.mark.parametrize(
    ("script", "argument", "said"),
    [
        ("recommend.py", "31", "The user index must lie in 0 to 30, got 31."),
        ("recommend.py", "-1", "The user index must lie in 0 to 30, got -1."),
        ("recommend.py", "1_0", "The user index must lie in 0 to 30, got 1_0."),
        ("recommend_by_id.py", "1_0", "The user id must be an integer (int64), got '1_0'."),
        ("recommend.py", "ten", "Usage: recommend.py BUNDLE USER_INDEX"),
        ("recommend.py", None, "Usage: recommend.py BUNDLE USER_INDEX"),
        ("recommend_by_id.py", str(2**80), f"The user id must be an integer (int64), got '{2**80}'."),
        ("recommend_by_id.py", None, "Usage: recommend_by_id.py BUNDLE USER_ID"),
    ],
)
def test_errors_are_one_line(script, argument, said) -> None:
    line = [sys.executable, DEMOS / script, BUNDLES["dot"], *([argument] if argument else [])]
    ended = subprocess.run(line, capture_output=True, text=True, timeout=PATIENCE)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr.startswith(said)
    assert ended.stderr.count("\n") == 1


@pytest.mark.parametrize("script", ["recommend.py", "recommend_by_id.py"])
def test_a_missing_bundle_is_named_in_one_line(tmp_path, script) -> None:
    line = [sys.executable, DEMOS / script, tmp_path / "nothing", "3"]
    ended = subprocess.run(line, capture_output=True, text=True, timeout=PATIENCE)
    assert ended.returncode == 1
    assert re.fullmatch(r".*nothing/(manifest.json|recommend_by_id.onnx).*\n", ended.stderr)


def test_an_unknown_user_gets_a_list_and_a_warning() -> None:
    line = [sys.executable, DEMOS / "recommend_by_id.py", BUNDLES["dot"], "7"]
    ended = subprocess.run(line, capture_output=True, text=True, timeout=PATIENCE)
    assert ended.returncode == 0
    assert "User 7 is not in this bundle" in ended.stderr
    assert len(ended.stdout.splitlines()) == 50


def test_the_script_is_short_and_the_page_shows_it_whole() -> None:
    script = (DEMOS / "recommend.py").read_text(encoding="utf-8")
    assert len([line for line in script.splitlines() if line]) <= 20
    assert f"```python\n{script}```" in runtimes_table.PAGE.read_text(encoding="utf-8")
