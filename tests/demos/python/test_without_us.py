"""The short scripts, in an environment that holds numpy and onnxruntime, and nothing else."""

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

from serve.runtime.recommender import Recommender

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
    ("script", "model", "argument", "said"),
    [
        ("recommend.py", "dot", "31", "The user index must lie in 0 to 30, got 31."),
        ("recommend.py", "dot", "-1", "The user index must lie in 0 to 30, got -1."),
        ("recommend.py", "dot", str(2**80), f"The user index must lie in 0 to 30, got {2**80}."),
        ("recommend.py", "dot", "ten", "Usage: recommend.py BUNDLE USER_INDEX (invalid literal .*'ten')"),
        ("recommend.py", "dot", None, "Usage: recommend.py BUNDLE USER_INDEX .*"),
        ("recommend.py", None, "3", "Usage: .*nothing/manifest.json')"),
        ("recommend_by_id.py", "dot", "ten", "The user id must be an integer (int64), got 'ten'."),
        ("recommend_by_id.py", "dot", str(2**80), f"The user id must be an integer (int64), got '{2**80}'."),
        ("recommend_by_id.py", "dot", None, "Usage: recommend_by_id.py BUNDLE USER_ID"),
        ("recommend_by_id.py", None, "3", ".*nothing/recommend_by_id.onnx is missing: .*--raw-ids."),
    ],
)
def test_what_was_wrong_is_told_in_one_line(tmp_path, script, model, argument, said) -> None:
    bundle = BUNDLES[model] if model else tmp_path / "nothing"
    line = [sys.executable, DEMOS / script, bundle, *([argument] if argument else [])]
    ended = subprocess.run(line, capture_output=True, text=True, timeout=PATIENCE)
    assert ended.returncode == 1
    assert ended.stdout == ""
    pattern = re.escape(said).replace(r"\.\*", ".*")
    assert re.fullmatch(pattern + r"\n", ended.stderr), ended.stderr


def test_somebody_unknown_is_told_whose_list_it_is() -> None:
    line = [sys.executable, DEMOS / "recommend_by_id.py", BUNDLES["dot"], "7"]
    ended = subprocess.run(line, capture_output=True, text=True, timeout=PATIENCE)
    assert ended.returncode == 0
    assert "User 7 is not in this bundle" in ended.stderr
    assert len(ended.stdout.splitlines()) == 50


def test_the_script_is_short_and_the_page_shows_it_whole() -> None:
    script = (DEMOS / "recommend.py").read_text(encoding="utf-8")
    assert len([line for line in script.splitlines() if line]) <= 20
    assert f"```python\n{script}```" in runtimes_table.PAGE.read_text(encoding="utf-8")
