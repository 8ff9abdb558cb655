"""Whole or absent, whatever happens in between."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from fixture_bundles import FIXTURES

from serve.bundle.bundle import open_bundle
from serve.errors import OutputError
from serve.files.atomic import check_outside_bundles, new_folder, write_file


def make(path: Path, text: str, **options: bool) -> None:
    with new_folder(path, **options) as folder:
        (folder / "manifest.json").write_text(text)
        (folder / "inner").mkdir()
        (folder / "inner" / "more").write_text(text)


def no_library(*_: object, **__: object) -> None:
    raise OSError("as on a system without renameat2")


def names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


def test_a_file_is_replaced_in_one_step_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    write_file(tmp_path / "a", b"old")
    write_file(tmp_path / "a", b"new")
    assert (tmp_path / "a").read_bytes() == b"new"
    assert names(tmp_path) == ["a"]


def test_a_file_behind_a_link_is_replaced_and_the_link_stays(tmp_path: Path) -> None:
    (tmp_path / "target").write_bytes(b"old")
    (tmp_path / "link").symlink_to("target")
    write_file(tmp_path / "link", b"new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "target").read_bytes() == b"new"


def test_a_full_disk_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_file(tmp_path / "a", b"old")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_file(tmp_path / "a", b"new")
    with pytest.raises(OSError, match="No space left"):
        make(tmp_path / "folder", "new")
    assert names(tmp_path) == ["a"]
    assert (tmp_path / "a").read_bytes() == b"old"


@pytest.mark.parametrize("exchange", [True, False], ids=["exchange", "two renames"])
def test_overwrite_swaps_the_whole_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, exchange: bool
) -> None:
    if not exchange:
        monkeypatch.setattr(ctypes, "CDLL", no_library)
    make(tmp_path / "deep" / "out", "old")
    (tmp_path / "deep" / "out" / "stale").touch()
    make(tmp_path / "deep" / "out", "new", overwrite=True)
    assert names(tmp_path / "deep") == ["out"]
    assert names(tmp_path / "deep" / "out") == ["inner", "manifest.json"]
    assert (tmp_path / "deep" / "out" / "inner" / "more").read_text() == "new"


def test_an_error_inside_leaves_the_old_folder(tmp_path: Path) -> None:
    make(tmp_path / "out", "old")
    with pytest.raises(IsADirectoryError), new_folder(tmp_path / "out", overwrite=True) as folder:
        folder.write_text("an error after the folder was made")
    assert names(tmp_path) == ["out"]
    assert (tmp_path / "out" / "manifest.json").read_text() == "old"


def test_an_error_in_the_swap_puts_the_old_folder_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(tmp_path / "out", "old")
    monkeypatch.setattr(ctypes, "CDLL", no_library)
    rename = Path.rename

    def fail_to_move_in(self: Path, target: Path) -> Path:
        if self.name.endswith(".tmp"):
            raise PermissionError(13, "Permission denied")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", fail_to_move_in)
    with pytest.raises(PermissionError):
        make(tmp_path / "out", "new", overwrite=True)
    assert names(tmp_path) == ["out"]
    assert (tmp_path / "out" / "manifest.json").read_text() == "old"


def test_what_is_not_ours_is_never_overwritten(tmp_path: Path) -> None:
    make(tmp_path / "out", "old")
    with pytest.raises(OutputError, match="already there"):
        make(tmp_path / "out", "new")
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "thesis").touch()
    with pytest.raises(OutputError, match=r"holds no manifest\.json"):
        make(tmp_path / "home", "new", overwrite=True)
    (tmp_path / "pointer").symlink_to("out")
    with pytest.raises(OutputError, match="is a link"):
        make(tmp_path / "pointer", "new", overwrite=True)
    with pytest.raises(OutputError, match="is a file"):
        make(tmp_path / "home" / "thesis", "new", overwrite=True)
    assert (tmp_path / "out" / "manifest.json").read_text() == "old"
    assert names(tmp_path) == ["home", "out", "pointer"]


def test_nothing_is_put_into_a_bundle(tmp_path: Path) -> None:
    bundle = Path(shutil.copytree(FIXTURES / "dot", tmp_path / "bundle"))
    with pytest.raises(OutputError, match="to which nothing is added"), new_folder(bundle / "sub"):
        pass
    with pytest.raises(OutputError, match="to which nothing is added"):
        check_outside_bundles(bundle / "card.html")
    check_outside_bundles(tmp_path / "card.html")
    open_bundle(bundle)


def test_an_empty_folder_may_be_overwritten(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    make(tmp_path / "out", "new", overwrite=True)
    assert (tmp_path / "out" / "manifest.json").read_text() == "new"


def test_a_killed_process_never_leaves_the_folder_missing_or_half_written(tmp_path: Path) -> None:
    """A process swaps the folder as fast as it can and is killed; what is there is whole, each time."""
    make(tmp_path / "out", "x" * 1000)
    program = (
        "import sys; from pathlib import Path; from serve.files.atomic import new_folder\n"
        "while True:\n"
        "    with new_folder(Path(sys.argv[1]), overwrite=True) as folder:\n"
        "        for name in ('manifest.json', 'second'): (folder / name).write_text('y' * 1000)\n"
        "    print('swapped', flush=True)\n"
    )
    for attempt in range(5):
        process = subprocess.Popen(
            [sys.executable, "-c", program, str(tmp_path / "out")], stdout=subprocess.PIPE
        )
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(0.003 * attempt)
        process.kill()
        process.wait()
        process.stdout.close()
        assert (tmp_path / "out" / "manifest.json").read_text() == "y" * 1000
        assert (tmp_path / "out" / "second").read_text() == "y" * 1000
