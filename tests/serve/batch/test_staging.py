"""Text is staged as Parquet in the job's folder: whole, once, and gone at the end."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from serve.batch.fragments import Outcome
from serve.batch.local_engine import run_locally
from serve.batch.recommend import Recommend
from serve.batch.score import Score
from serve.errors import InputError

from .conftest import DoJob, contents, read

LINES = [
    "user_id,item_id,note",
    "10,1001,a",
    "",
    "20,1002,b",
    "x,1001,c",
    "10",
    '20,1001,"two\nlines"',
    "30,1002,d",
]
NUMBERED = {"a": 2, "b": 4, "two\nlines": 7, "d": 9}


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    path = tmp_path / "pairs.csv"
    path.write_text("\n".join(LINES))
    return path


def stop(*_: Any) -> Iterator[Outcome]:
    raise KeyboardInterrupt
    yield


@pytest.mark.parametrize("part_rows", [1, 2, 3, 100])
def test_rows_and_refusals_are_cut_alike_and_stay_in_order(part_rows: int, pairs: Path, do: DoJob) -> None:
    options = {"on_bad_row": "quarantine", "part_rows": part_rows, "batch_rows": 2}
    summary = do(Score(), pairs, **options)
    assert (summary.rows_in, summary.rows_out, summary.quarantined) == (6, 4, 2)
    output = pairs.parent / "out"
    assert read(output)["note"].to_pylist() == list(NUMBERED)
    parts = sorted(output.glob("part-*"))
    assert len(parts) == -(-6 // part_rows)
    assert not (output / "_input").exists()
    bad = "".join(path.read_text() for path in sorted((output / "_quarantine").iterdir()))
    assert [line.split('"line":')[1].split(",")[0] for line in bad.splitlines()] == ["5", "6"]


def test_what_is_staged_is_kept_for_resumption(pairs: Path, tmp_path: Path, do: DoJob) -> None:
    options = {"on_bad_row": "quarantine", "part_rows": 2}
    do(Score(), pairs, output=str(tmp_path / "whole"), **options)
    with pytest.raises(KeyboardInterrupt):
        do(Score(), pairs, engine=stop, **options)
    (staged,) = (tmp_path / ".out.partial" / "_input").iterdir()
    before, seen = staged.stat().st_ino, []

    def look(*arguments: Any) -> Iterator[Outcome]:
        seen.append(staged.stat().st_ino)
        yield from run_locally(*arguments)

    do(Score(), pairs, engine=look, resume=True, **options)
    assert seen == [before]
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


def test_only_the_columns_that_are_read_are_staged(pairs: Path, tmp_path: Path, do: DoJob) -> None:
    with pytest.raises(KeyboardInterrupt):
        do(Recommend(), pairs, engine=stop)
    (staged,) = (tmp_path / ".out.partial" / "_input").iterdir()
    assert pq.read_schema(staged).names == ["user_id", "line", "refusal"]


def test_names_of_ours_are_free_for_columns(tmp_path: Path, do: DoJob) -> None:
    (tmp_path / "pairs.csv").write_text("user_id,item_id,line,refusal,line_\n10,1001,a,b,c\n")
    do(Score(), tmp_path / "pairs.csv")
    assert read(tmp_path / "out").select(["line", "refusal", "line_"]).to_pylist() == [
        {"line": "a", "refusal": "b", "line_": "c"}
    ]


def test_a_file_that_can_not_be_staged_leaves_nothing(pairs: Path, tmp_path: Path, do: DoJob) -> None:
    pairs.write_text('user_id,item_id\n10,1001\n20,"1001\n')
    with pytest.raises(InputError, match="never closed"):
        do(Score(), pairs)
    assert [path.name for path in tmp_path.iterdir()] == ["pairs.csv"]
