"""The site of the docs: pages, links and names; `make docs` builds it and fails on a broken link."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest

import recsys
import serve

ROOT = Path(__file__).parents[1]
STAGING = runpy.run_path(str(ROOT / "docs" / "stage_site.py"))


def test_every_page_is_in_the_navigation_once() -> None:
    _, nav = (ROOT / "mkdocs.yml").read_text(encoding="utf-8").split("\nnav:\n")
    listed = re.findall(r"(\S+\.md)$", nav, flags=re.MULTILINE)
    pages = [path.name for path in (ROOT / "docs").glob("*.md")]
    examples = [f"examples/{path.name}" for path in (ROOT / "examples").glob("*.md")]
    assert sorted(listed) == sorted(["index.md", *pages, *examples])


def test_every_public_name_is_in_the_reference() -> None:
    named = re.findall(
        r"^::: (\S+)$", (ROOT / "docs" / "api.md").read_text(encoding="utf-8"), flags=re.MULTILINE
    )
    public = [f"{package.__name__}.{name}" for package in (recsys, serve) for name in package.__all__]
    assert sorted(named) == sorted(public)


def test_links_lead_to_files_and_are_moved_with_the_pages(tmp_path: Path) -> None:
    STAGING["stage"](tmp_path / "site")
    start = (tmp_path / "site" / "index.md").read_text(encoding="utf-8")
    assert "](training.md)" in start
    assert "](docs/" not in start
    for page in (tmp_path / "site").rglob("*.md"):
        parts = re.split(r"(^```.*?^```$)", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
        for link in re.findall(r"\]\((?![a-z]+:|#)([^)\s#]+)", "".join(parts[::2])):
            assert (page.parent / link).is_file(), f"{page}: {link}"
    with pytest.raises(FileNotFoundError, match=r"docs/data\.md links to nowhere\.md, which is no file"):
        STAGING["with_links"]("docs/data.md", "[x](nowhere.md)")
    text = "[a](../README.md#use) [b](bundle.md) [c](https://x.org)\n```\n[d](nowhere.md)\n```\n"
    moved, linked = STAGING["with_links"]("docs/data.md", text)
    assert moved == text.replace("../README.md", "index.md")
    assert linked == ["README.md", "docs/bundle.md"]
