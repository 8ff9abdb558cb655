"""What reading data needs: tiny files and zips, made on the spot."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.recsys.data.layouts import Make


@pytest.fixture
def make_zip(tmp_path: Path) -> Make:
    def make(members: dict[str, bytes], folder: str = "", name: str = "some.zip") -> Path:
        path = tmp_path / name
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for member, content in members.items():
                archive.writestr(folder + member, content)
        return path

    return make


@pytest.fixture
def make_folder(tmp_path: Path) -> Make:
    def make(members: dict[str, bytes], folder: str = "") -> Path:
        root = tmp_path / "unpacked"
        (root / folder).mkdir(parents=True)
        for member, content in members.items():
            (root / folder / member).write_bytes(content)
        return root

    return make


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str, str | bytes], str]:
    """Write a file, and return its path."""

    def write(name: str, content: str | bytes) -> str:
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return str(path)

    return write


@pytest.fixture(scope="session")
def ml100k_zip() -> Path:
    path = os.environ.get("ML100K_ZIP")
    if not path:
        pytest.skip("MovieLens 100K may not be redistributed: set ML100K_ZIP to the path of its zip")
    return Path(path)
