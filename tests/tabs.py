"""What a page lists, read in one go, and waited for: it may still be showing what it showed before."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from patience import PATIENCE

READ = """(rows, [title, number]) => rows.map(
    row => [title, number].map(name => row.querySelector(name).innerText))"""


def read_list(rows: Any, title: str, number: str) -> list[tuple[str, float]]:
    """Of each row the title and the number, by their selectors; a number that is not there yet is NaN."""
    pairs = rows.evaluate_all(READ, [title, number])
    return [(words, float(digits or "nan")) for words, digits in pairs]


def wait_for_list(
    tab: Any, rows: Any, title: str, number: str, wanted: Sequence[tuple[str, float]], atol: float = 0.0051
) -> None:
    """Until the rows are these, in this order, with these numbers but for their rounding."""
    wait_in_tab(tab, lambda: read_list(rows, title, number), lambda found: _alike(found, wanted, atol))


def wait_in_tab(tab: Any, read: Callable[[], Any], suits: Callable[[Any], bool]) -> None:
    """Until what is read suits."""
    end = time.monotonic() + PATIENCE
    while not suits(found := read()):
        assert time.monotonic() < end, found
        tab.wait_for_timeout(50)  # unlike a sleep, this lets what the page asks for be answered


def _alike(found: Sequence[tuple[str, float]], wanted: Sequence[tuple[str, float]], atol: float) -> bool:
    if [title for title, _ in found] != [title for title, _ in wanted]:
        return False
    return np.allclose([number for _, number in found], [number for _, number in wanted], rtol=0, atol=atol)
