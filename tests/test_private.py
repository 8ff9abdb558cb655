"""No usage reports: ONNX Runtime's official builds send them unless they are turned off."""

from __future__ import annotations

import mmap
import os
import subprocess
import sys
from pathlib import Path

import onnxruntime
import pytest
from fixture_bundles import FIXTURES

ROOT = Path(__file__).parent.parent
BUNDLE = str(FIXTURES / "dot")


def files_of(arguments: list[str], home: Path) -> list[str]:
    """What a program leaves in its home and among temporary files."""
    home.mkdir()
    environment = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    environment |= {"HOME": str(home), "TMPDIR": str(home)}
    environment.pop("XDG_CACHE_HOME", None)
    subprocess.run(arguments, env=environment, check=True, stdout=subprocess.DEVNULL, cwd=ROOT)
    return [str(path.relative_to(home)) for path in home.rglob("*") if path.is_file()]


@pytest.mark.parametrize(
    "arguments",
    [
        ["-m", "recsys", "recommend", BUNDLE, "--user-id", "40"],
        ["-m", "recsys", "score", BUNDLE, "--input", "pairs.csv", "--output", "out", "--workers", "2"],
        [
            "-c",
            "import export.verify.verify, sys, onnxruntime as o; o.InferenceSession(sys.argv[1])",
            "graph",
        ],
        ["demos/python/recommend.py", BUNDLE, "1"],
    ],
    ids=["answer", "job", "export", "script"],
)
def test_nothing_is_collected(arguments: list[str], tmp_path: Path) -> None:
    (tmp_path / "pairs.csv").write_text("user_id,item_id\n" + "10,1001\n" * 50)
    paths = {name: str(tmp_path / name) for name in ("pairs.csv", "out")}
    paths["graph"] = str(FIXTURES / "dot" / "score.onnx")
    line = [sys.executable, *(paths.get(argument, argument) for argument in arguments)]
    assert files_of([*line, *(["--part-rows", "10"] if "out" in arguments else [])], tmp_path / "home") == []


def test_onnxruntime_has_telemetry_and_reads_that_variable() -> None:
    """Without a network, the test above can't see what would be sent; these strings show that it matters."""
    (library,) = Path(onnxruntime.__file__).parent.glob("capi/onnxruntime_pybind11_state*.so")
    with library.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as code:
        for text in (b"events.data.microsoft.com", b"ORT_DISABLE_TELEMETRY"):
            assert code.find(text) >= 0, f"{text!r} is gone: the test above proves nothing any more"
