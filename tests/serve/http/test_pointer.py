"""What may stand for a bundle."""

from __future__ import annotations

from pathlib import Path

import pytest

from serve.errors import BundleError
from serve.http.pointer import MAX_POINTER_BYTES, resolve, stamp


def test_folders_links_and_text_files(tmp_path: Path) -> None:
    bundle = tmp_path / "bundle"
    bundle.mkdir()
    (tmp_path / "link").symlink_to(bundle)
    (tmp_path / "link-to-link").symlink_to(tmp_path / "link")
    texts = {"absolute": str(bundle), "relative": "bundle\n", "of-link": "link", "spaces": " bundle \n\n"}
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "link-to-text").symlink_to(tmp_path / "relative")
    for name in ("bundle", "link", "link-to-link", *texts, "link-to-text"):
        assert resolve(tmp_path / name) == bundle, name


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\n",
        b"a\nb\n",
        b"a\0b",
        b"x" * (MAX_POINTER_BYTES + 1),
        b"\xff\xfe",
        b"nowhere",
        b"pointer",
        None,
    ],
)
def test_anything_else_is_refused(tmp_path: Path, content: bytes | None) -> None:
    pointer = tmp_path / "pointer"
    with pytest.raises(BundleError, match="pointer"):
        resolve(pointer)
    if content is None:
        pointer.symlink_to(pointer)
    else:
        pointer.write_bytes(content)
    with pytest.raises(BundleError, match="pointer"):
        resolve(pointer)


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
