"""A byte that changed while a job was stopped is found: its work is done again, or refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from serve.batch.recommend import Recommend
from serve.errors import OutputError

from .conftest import DoJob, contents
from .test_run import stop_after

OPTIONS = {"part_rows": 20, "on_bad_row": "quarantine", "format": "jsonl"}


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.fixture
def users(tmp_path: Path) -> Path:
    path = tmp_path / "users.csv"
    path.write_text("user_id\n" + "10\nx\n" * 30)
    return path


@pytest.mark.parametrize(
    "name",
    [
        "part-00001.jsonl",
        "_done/00001.json",
        "_quarantine/part-00001.jsonl",
        "_input/00000.parquet",
        "_staged.json",
    ],
)
def test_a_stopped_job_ends_with_the_right_bytes(tmp_path: Path, users: Path, do: DoJob, name: str) -> None:
    do(Recommend(), users, **OPTIONS)
    right = contents(tmp_path / "out")
    (tmp_path / "out").rename(tmp_path / "right")
    with pytest.raises(KeyboardInterrupt):
        do(Recommend(), users, engine=stop_after(2), **OPTIONS)
    flip(tmp_path / ".out.partial" / name)
    do(Recommend(), users, resume=True, **OPTIONS)
    assert contents(tmp_path / "out") == right


@pytest.mark.parametrize("name", ["part-00001.jsonl", "_quarantine/part-00001.jsonl"])
def test_a_finished_job_is_not_called_finished(tmp_path: Path, users: Path, do: DoJob, name: str) -> None:
    do(Recommend(), users, **OPTIONS)
    right = contents(tmp_path / "out")
    flip(tmp_path / "out" / name)
    with pytest.raises(OutputError, match=f"{name} has gone or changed since the job ended.*--overwrite"):
        do(Recommend(), users, resume=True, **OPTIONS)
    do(Recommend(), users, resume=True, overwrite=True, **OPTIONS)
    assert contents(tmp_path / "out") == right
