"""Where a benchmark puts what it found: a page for people, and the page's tables for programs."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

RESULTS = Path(os.environ.get("BENCH_RESULTS") or Path(__file__).parent / "results")
_SPREAD = re.compile(r"([\d.,]+) \(([\d.,]+)-([\d.,]+)\)")


def publish(name: str, page: str) -> None:
    """Write `results/NAME.md`, and beside it `NAME.json` with the rows of its tables; print the page.

    The environment's BENCH_RESULTS names another folder.

    In JSON a cell is a number (0.5 for `50%`), `{"median", "low", "high"}` where the page says
    `1.2 (1.1-1.3)`, or text.
    """
    RESULTS.mkdir(parents=True, exist_ok=True)
    page = page.rstrip("\n") + "\n"
    (RESULTS / f"{name}.md").write_text(page, encoding="utf-8")
    (RESULTS / f"{name}.json").write_text(json.dumps(tables_of(page), indent=1) + "\n", encoding="utf-8")
    print(page, end="")


def tables_of(page: str) -> list[list[dict[str, object]]]:
    """The tables of a Markdown page in their order, each a list of rows: column to cell.

    A column whose name was there before gets the number of its place, as in `CPU s 2`.
    """
    tables = []
    for block in re.findall(r"(?:^\|.*\n)+", page, re.MULTILINE):
        head, _, *rows = ([cell.strip() for cell in row.strip("|").split("|")] for row in block.splitlines())
        columns = [f"{c} {head[:i].count(c) + 1}" if c in head[:i] else c for i, c in enumerate(head)]
        tables.append([dict(zip(columns, map(_cell, row), strict=True)) for row in rows])
    return tables


def _cell(text: str) -> object:
    if found := _SPREAD.fullmatch(text):
        median, low, high = (float(number.replace(",", "")) for number in found.groups())
        return {"median": median, "low": low, "high": high}
    try:
        if text.endswith("%"):
            return float(text[:-1]) / 100
        return float(text.replace(",", ""))
    except ValueError:
        return text
