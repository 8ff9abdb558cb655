"""The table of promises names tests that exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
ROWS = [
    [cell.strip() for cell in line.strip("|").split(" | ")]
    for line in (TESTS.parent / "docs" / "reliability.md").read_text(encoding="utf-8").splitlines()
    if line.startswith("|") and not line.startswith(("| --- ", "| promised "))
]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0][:60])
def test_a_promise_has_its_tests(row: list[str]) -> None:
    _, tests, tries, last_run = row
    assert tries
    assert re.fullmatch(r"\d{4}-\d\d-\d\d\W*", last_run)
    named = re.findall(r"`([\w/]+\.py)::(\w+)`", tests)
    assert named
    assert len(named) == tests.count("`") / 2
    for path, name in named:
        source = (TESTS / path).read_text(encoding="utf-8")
        assert re.search(rf"^def {name}\(", source, re.MULTILINE), f"{path} has no {name}"


def test_no_promise_is_there_twice() -> None:
    promises = [row[0] for row in ROWS]
    assert len(promises) > 20
    assert len(set(promises)) == len(promises)
