"""Bundles for the answering tests. Nothing here needs torch, onnx or pandas."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from fixture_bundles import BUNDLES, FIXTURES

from recsys.cli import main
from serve.runtime.recommender import Recommender

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def recsys(capsys: pytest.CaptureFixture[str]) -> Run:
    """Run the command in this process: exit code, stdout, stderr."""

    def run(*arguments: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as stop:
            main(list(map(str, arguments)))
        captured = capsys.readouterr()
        return int(stop.value.code or 0), captured.out, captured.err

    return run


@pytest.fixture(params=BUNDLES)
def bundle_path(request: pytest.FixtureRequest) -> Path:
    """Each of the small bundles in turn."""
    path: Path = FIXTURES / request.param
    return path


@pytest.fixture
def served(bundle_path: Path) -> Recommender:
    """Each of them, answering."""
    return Recommender.load(bundle_path, "cpu")


def all_users(served: Recommender) -> np.ndarray:
    """The ids of all users: int64 or object (str) [n_users]."""
    return served.users.ids(np.arange(1, len(served.users) + 1))


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of one bundle, to be damaged."""
    return Path(shutil.copytree(FIXTURES / "dot-bias", tmp_path / "bundle"))


@pytest.fixture
def edit_manifest(copy: Path) -> Callable[[Callable[[dict[str, Any]], object]], None]:
    """Change the copy's manifest in place."""

    def edit(change: Callable[[dict[str, Any]], object]) -> None:
        manifest = msgspec.json.decode((copy / "manifest.json").read_bytes())
        change(manifest)
        (copy / "manifest.json").write_bytes(msgspec.json.encode(manifest))

    return edit


@pytest.fixture
def forge(copy: Path, edit_manifest: Callable[..., None]) -> Callable[[str, bytes], None]:
    """Replace or add a file of the copy, with the right size and checksum in the manifest."""

    def write(name: str, data: bytes) -> None:
        (copy / name).write_bytes(data)
        entry = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        edit_manifest(lambda manifest: manifest["files"].update({name: entry}))

    return write
