"""What may stand for a bundle."""

from __future__ import annotations

from pathlib import Path

import pytest

from serve.errors import BundleError
from serve.http.pointer import MAX_POINTER_BYTES, resolve, stamp


def test_folders_links_and_text_files(tmp_path: Path) -> None:
    bundle = tmp_path / "bundle"
    bundle.mkdir()
    link = tmp_path / "link"
    link.symlink_to(bundle)
    of_link = tmp_path / "link-to-link"
    of_link.symlink_to(link)
    texts = {"absolute": str(bundle), "relative": "bundle\n", "of-link": "link", "spaces": " bundle \n\n"}
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "link-to-text").symlink_to(tmp_path / "relative")
    for name in ("bundle", "link", "link-to-link", *texts, "link-to-text"):
        assert resolve(tmp_path / name) == bundle, name


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "must hold one line"),
        (b"\n", "must hold one line"),
        (b"a\nb\n", "must hold one line"),
        (b"a\0b", "must hold one line"),
        (b"x" * (MAX_POINTER_BYTES + 1), "must hold one line"),
        (b"\xff\xfe", "neither a bundle nor a text file"),
        (b"nowhere", "names 'nowhere': No such file"),
        (b"pointer", "names 'pointer', which is not a folder"),
    ],
)
def test_text_files_that_name_none(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "pointer").write_bytes(content)
    with pytest.raises(BundleError, match=message):
        resolve(tmp_path / "pointer")


def test_nothing_and_loops(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="No such file"):
        resolve(tmp_path / "nothing")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with pytest.raises(BundleError, match="is not a bundle"):
        resolve(tmp_path / "loop")


def test_a_stamp_changes_with_the_pointer_and_with_each_file(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "manifest.json").write_text("{}")
    link = tmp_path / "link"
    stamps = [stamp(link)]
    for change in (
        lambda: link.symlink_to("one"),
        lambda: (tmp_path / "one" / "graph").write_text("new"),
        lambda: (tmp_path / "one" / "manifest.json").write_text("{ }"),
        lambda: (tmp_path / "one" / "graph").unlink(),
        lambda: (link.unlink(), link.symlink_to("two")),
    ):
        change()
        assert stamp(link) not in stamps
        stamps.append(stamp(link))
    assert stamp(link) == stamps[-1]
