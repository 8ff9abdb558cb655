"""What the tests of all pages share: lists that are read and waited for, axe, pictures, hostile text."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from patience import PATIENCE

# Of the repository, also where the package is installed as a wheel.
PACKAGES = Path(__file__).parent.parent / "demos" / "browser" / "node_modules"
AXE = PACKAGES / "axe-core" / "axe.min.js"
HOSTILE = "<img src=x onerror=\"document.title='taken'\"><script>document.title='taken'</script>"
PHONE = {"width": 375, "height": 800}

READ = """(rows, [title, number]) => rows.map(
    row => [title, number].map(name => row.querySelector(name).innerText))"""


def read_list(rows: Any, title: str, number: str) -> list[tuple[str, float]]:
    """The title and the number of each row, by their selectors; NaN for a number that is still missing."""
    pairs = rows.evaluate_all(READ, [title, number])
    return [(words, float(digits or "nan")) for words, digits in pairs]


def wait_for_list(rows: Any, title: str, number: str, wanted: Sequence[tuple[str, float]]) -> None:
    """Wait until the rows are these, in this order, with these numbers to two decimals."""
    titles, numbers = [title for title, _ in wanted], [number for _, number in wanted]

    def suits(found: list[tuple[str, float]]) -> bool:
        if [title for title, _ in found] != titles:
            return False
        return np.allclose([number for _, number in found], numbers, rtol=0, atol=0.0051)

    wait_in_tab(rows.page, lambda: read_list(rows, title, number), suits)


def wait_in_tab(tab: Any, read: Callable[[], Any], suits: Callable[[Any], bool]) -> None:
    """Wait until what is read suits."""
    end = time.monotonic() + PATIENCE
    while not suits(found := read()):
        assert time.monotonic() < end, found
        tab.wait_for_timeout(50)  # unlike a sleep, this lets Playwright answer the tab's requests


def findings(tab: Any, scheme: str) -> list[str]:
    """What axe finds: "rule (impact): element". In the dark scheme only contrasts: nothing else differs."""
    if not AXE.exists():
        pytest.skip("run `npm ci --prefix demos/browser` for axe-core")
    if not tab.evaluate("'axe' in window"):
        tab.evaluate(AXE.read_text(encoding="utf-8"))
    options = {"runOnly": ["color-contrast"]} if scheme == "dark" else {}
    violations = tab.evaluate("options => axe.run(options)", options)["violations"]
    return [f"{v['id']} ({v['impact']}): {node['html'][:200]}" for v in violations for node in v["nodes"]]


def picture(tab: Any, name: str) -> None:
    """A screenshot for CI, in the folder CI_OUTPUT."""
    if folder := os.environ.get("CI_OUTPUT"):
        tab.screenshot(path=Path(folder) / f"{name}.png", full_page=True)
