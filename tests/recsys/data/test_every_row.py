"""Whatever the bytes: every row of training data is read, or counted in the error that refuses the data.

`pytest -m nightly` tries many more files, and prints how many rows they had.
"""

from __future__ import annotations

import re
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from recsys.data.ratings_table import Columns, read_ratings
from recsys.errors import DataError
from serve.errors import InputError
from serve.reading.files import open_source
from serve.terminal import counted
from tests.serve.reading.test_every_row import PIECES, is_unclear, run

SMALL, MANY = 40, 5_000


def is_id(text: str) -> bool:
    return bool(text) and not re.match(r"-?\d+\.0+$|-?\d\.\d+[eE]\+\d+$", text, re.ASCII)


def is_rating(text: str) -> bool:
    if not re.match(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$", text, re.ASCII):
        return False
    with np.errstate(over="ignore"):
        return bool(np.isfinite(np.float32(float(text))))


def check_ratings(content: bytes, ending: str, folder: Path, counts: Counter[str]) -> None:
    """Against the obvious rules for each row that the reader gives."""
    counts["files"] += 1
    path = folder / f"r{ending}"
    path.write_bytes(content)
    try:
        parts = list(open_source(path).read(["user_id", "item_id", "rating"]))
    except InputError:
        assert is_unclear(content, ending)
        counts["files refused"] += 1
        return
    rows = [tuple(row.values()) for part in parts for row in part.table.to_pylist()]
    good = [row for row in rows if is_id(row[0]) and is_id(row[1]) and is_rating(row[2])]
    n_refused = sum(len(part.refused) for part in parts) + len(rows) - len(good)
    if n_refused or not rows:
        counts["rows refused"] += n_refused
        message = f"r: {counted(n_refused, 'row')} can't be read:" if n_refused else "r has no ratings"
        with pytest.raises(DataError, match=message):
            read_ratings([open_source(path)], Columns(timestamp=""), "r")
        return
    table = read_ratings([open_source(path)], Columns(timestamp=""), "r")
    counts["rows read"] += len(rows)
    assert len(table.ratings) == len(rows)
    for ids, place in ((table.user_ids, 0), (table.item_ids, 1)):
        assert [str(id) for id in ids.to_pylist()] == [row[place] for row in rows], "as they are written"
    assert table.ratings.tolist() == [float(np.float32(float(row[2]))) for row in rows]


@pytest.mark.parametrize("ending", PIECES)
def test_every_row_of_ratings(ending: str, tmp_path: Path) -> None:
    counts = run(check_ratings, ending, tmp_path, SMALL)
    assert min(counts["rows read"], counts["rows refused"]) > 0


@pytest.mark.nightly
@pytest.mark.parametrize("ending", PIECES)
def test_every_row_of_many(ending: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    counts = run(check_ratings, ending, tmp_path, MANY)
    with capsys.disabled():
        shown = ", ".join(f"{n:,} {name}" for name, n in counts.items())
        sys.stdout.write(f"\ntraining data {ending}: {shown}")
