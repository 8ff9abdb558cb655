"""The tables that benchmarks leave are the same for people and for programs."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"
SPEC = importlib.util.spec_from_file_location("publish", BENCHMARKS / "publish.py")
assert SPEC
assert SPEC.loader
publish = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(publish)

PAGE = """# Title

| items | ms | share | ms | note |
| --- | --- | --- | --- | --- |
| 10,000 | 1.5 (1.2-1.8) | 52% | 3 | `a` |
| 20,000 |  | 0% | -0.5 | x 2 |

Text.

| a |
| --- |
| 1 |
"""


def test_cells_are_numbers_spreads_or_text() -> None:
    assert publish.tables_of(PAGE) == [
        [
            {
                "items": 10_000.0,
                "ms": {"median": 1.5, "low": 1.2, "high": 1.8},
                "share": 0.52,
                "ms 2": 3.0,
                "note": "`a`",
            },
            {"items": 20_000.0, "ms": "", "share": 0.0, "ms 2": -0.5, "note": "x 2"},
        ],
        [{"a": 1.0}],
    ]


def test_a_row_that_lacks_a_cell_is_an_error() -> None:
    with pytest.raises(ValueError, match="zip"):
        publish.tables_of("| a | b |\n| --- | --- |\n| 1 |\n")


@pytest.mark.parametrize("page", sorted((BENCHMARKS / "results").glob("*.md")), ids=lambda page: page.stem)
def test_a_page_has_its_tables_beside_it(page: Path) -> None:
    tables = publish.tables_of(page.read_text(encoding="utf-8"))
    assert tables
    assert json.loads(page.with_suffix(".json").read_text(encoding="utf-8")) == tables
