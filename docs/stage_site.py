"""Lay out the site's sources: the pages of docs/, the README as the first, and the files that they link to.

`make docs` runs it. On the site, pages of docs/ are at the top; other files keep their paths.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
HOME = "README.md"
LINK = re.compile(r"(?<=\]\()(?![a-z]+:|#)([^)\s#]+)")


def place(path: str) -> str:
    """Where a file of the repository is on the site."""
    return "index.md" if path == HOME else path.removeprefix("docs/")


def stage(target: Path) -> None:
    """Write the site's sources into a new folder.

    Raises:
        FileNotFoundError: a page links to nothing.
    """
    shutil.rmtree(target, ignore_errors=True)
    waiting = [HOME, *(path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").glob("*.md"))]
    done: set[str] = set()
    while waiting:
        path = waiting.pop()
        if path in done:
            continue
        done.add(path)
        source, copy = ROOT / path, target / place(path)
        copy.parent.mkdir(parents=True, exist_ok=True)
        if source.suffix == ".md":
            text, linked = with_links(path, source.read_text("utf-8") if source.exists() else listing(path))
            copy.write_text(text, encoding="utf-8")
            waiting += linked
        else:
            shutil.copy(source, copy)


def listing(path: str) -> str:
    """A page that lists the folder of `path`, for links to folders."""
    folder = (ROOT / path).parent
    names = sorted(file.name for file in folder.iterdir() if file.suffix in (".md", ".toml"))
    return f"# {folder.name}\n\n" + "".join(f"- [{name}]({name})\n" for name in names)


def with_links(path: str, text: str) -> tuple[str, list[str]]:
    """The text of the page `path` with links for the site, and the files that they lead to."""
    linked = []

    def moved(found: re.Match[str]) -> str:
        there = os.path.relpath((ROOT / path).parent / found[1], ROOT)
        if (ROOT / there).is_dir():
            there += "/index.md"
        elif not (ROOT / there).is_file():
            raise FileNotFoundError(f"{path} links to {found[1]}, which is no file")
        linked.append(there)
        return os.path.relpath(place(there), Path(place(path)).parent)

    parts = re.split(r"(^```.*?^```$)", text, flags=re.MULTILINE | re.DOTALL)  # code holds no links
    return "".join(part if part.startswith("```") else LINK.sub(moved, part) for part in parts), linked


if __name__ == "__main__":
    stage(Path(sys.argv[1]))
