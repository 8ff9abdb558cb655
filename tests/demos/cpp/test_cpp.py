"""The program in C++, compiled against the headers and libraries of OpenVINO's Python package."""

from __future__ import annotations

import shutil
import subprocess
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from runtimes_table import BUNDLES

from serve import Recommender

SOURCE = Path(__file__).parents[3] / "demos" / "cpp" / "recommend.cpp"


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    compiler, package = shutil.which("g++"), find_spec("openvino")
    if compiler is None or package is None or package.origin is None:
        pytest.skip("there is no g++, or no openvino")
    home, made = Path(package.origin).parent, tmp_path_factory.mktemp("cpp") / "recommend"
    (library,) = (home / "libs").glob("libopenvino.so.*")
    command = [compiler, "-std=c++17", "-o", made, SOURCE, f"-I{home / 'include'}", library]
    command += [f"-Wl,-rpath,{home / 'libs'}", "-Wl,--allow-shlib-undefined"]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return made


def run(program: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([program, *map(str, arguments)], capture_output=True, text=True)


@pytest.mark.parametrize("name", BUNDLES)
def test_recommends_by_index(program: Path, name: str) -> None:
    done = run(program, BUNDLES[name], 3)
    assert (done.returncode, done.stderr) == (0, "")
    rows = [line.split("\t") for line in done.stdout.splitlines()]
    wanted = Recommender.load(BUNDLES[name], "cpu").rank(np.array([3]), exclude_seen=False)
    assert [int(index) for index, _ in rows] == wanted[0][0, :10].tolist()
    np.testing.assert_allclose([float(score) for _, score in rows], wanted[1][0, :10], atol=1e-5)


def test_wrong_usage_and_no_bundle(program: Path, tmp_path: Path) -> None:
    assert run(program).returncode == 2
    for wrong in ("", "three", "3x", "3.0", "+3", " 3", "-1", "1_0", "9" * 30):
        assert run(program, BUNDLES["dot"], wrong).returncode == 2, wrong
    missing = run(program, tmp_path, 3)
    assert missing.returncode == 1
    assert missing.stderr.startswith("Error: ")
