"""Jobs in a store that are asked for again: finished ones, another's, and what their errors advise."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest
from pyarrow import fs

from serve.batch.job_folder import SUCCESS
from serve.batch.score import Score
from serve.errors import InputError, OutputError, StoreError

from .conftest import BUNDLE, OUT, contents, put, stored
from .s3_server import S3Server


def never(*arguments: Any) -> Any:
    raise AssertionError("the job is done again")


def test_a_finished_output_is_not_made_again(
    s3: fs.FileSystem, running: S3Server, score: Any, pairs: Path, tmp_path: Path
) -> None:
    put(s3, "in.parquet", pairs.read_bytes())
    first = score("s3://bucket/in.parquet", part_rows=4000)
    before = stored(s3)
    # Killed in its last step.
    put(s3, f"night/scored/_new-{hashlib.sha256(before[SUCCESS]).hexdigest()[:16]}/_all-put", b"")
    running.requests.clear()
    for overwrite in (False, True):
        options = {"part_rows": 4000, "resume": True, "overwrite": overwrite, "engine": never}
        assert score("s3://bucket/in.parquet", **options) == first
        assert stored(s3) == before
    assert not [path for method, path in running.requests if method == "PUT" and "part-" in path]
    assert not (tmp_path / "work").exists()


def test_another_jobs_output_is_refused_before_the_work(s3: fs.FileSystem, score: Any, pairs: Path) -> None:
    score(str(pairs), part_rows=4000)
    before = stored(s3)
    for other, said in (({"part_rows": 6000}, "part_rows"), ({"task": Score(unknown="null")}, "task")):
        with pytest.raises(OutputError, match=f"the job in {OUT} is another one: it differs in .*{said}"):
            score(str(pairs), **{"part_rows": 4000, **other}, resume=True, engine=never)
    assert stored(s3) == before
    score(str(pairs), part_rows=6000, resume=True, overwrite=True)
    assert len(stored(s3)) == 3


def test_a_finished_output_that_has_lost_a_part_or_its_summary(
    s3: fs.FileSystem, score: Any, pairs: Path
) -> None:
    score(str(pairs), part_rows=4000)
    before = stored(s3)
    put(s3, "night/scored/part-00001.parquet", b"short")
    with pytest.raises(OutputError, match=r"part-00001\.parquet has gone or changed"):
        score(str(pairs), part_rows=4000, resume=True, engine=never)
    score(str(pairs), part_rows=4000, resume=True, overwrite=True)
    assert stored(s3) == before
    put(s3, f"night/scored/{SUCCESS}", b"{")
    with pytest.raises(OutputError, match=f"{OUT}/{SUCCESS} is damaged"):
        score(str(pairs), part_rows=4000, resume=True, engine=never)


def test_a_name_with_brackets_is_no_pattern_of_the_inputs(
    s3: fs.FileSystem, recsys: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "b"):
        put(s3, f"in/{name}.csv", b"user_id,item_id\n1,1\n")
    line = ("score", BUNDLE, "--device", "cpu", "--input", "s3://bucket/in/*.csv", "--output")
    (tmp_path / ".out1.job" / "input").mkdir(parents=True)  # what the brackets would match
    for output in (tmp_path / "out[1]", tmp_path / "plain"):
        code, _, err = recsys(*line, output)
        assert code == 0, err
    assert contents(tmp_path / "out[1]") == contents(tmp_path / "plain")
    monkeypatch.chdir(tmp_path)
    code, _, err = recsys(*line, OUT, "--work-folder", "w[1]/x")
    assert code == 0, err
    assert stored(s3) == contents(tmp_path / "plain")


@pytest.mark.parametrize("work", [".", "", "file"])
def test_a_folder_that_is_no_work_folder(
    s3: fs.FileSystem, score: Any, pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, work: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match=f"the work folder {tmp_path}.* (holds|is no folder)") as refused:
        score(str(pairs), work=Path(work))
    assert str(refused.value).endswith("--work-folder")
    assert "Move it" not in str(refused.value)
    assert stored(s3) == {}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "pairs.parquet"]


@pytest.mark.parametrize(
    ("source", "output", "error"),
    [
        ("s3:///x.csv", OUT, StoreError),
        ("ftp3://bucket/x.csv", OUT, StoreError),
        ("s3://bucket/x?sig=1", OUT, StoreError),
        ("s3://bucket/x.csv#1", OUT, InputError),
        (None, "s3:///out", StoreError),
        (None, "s3://no-bucket/out", StoreError),
    ],
)
def test_nothing_goes_on_where_nothing_was_done(
    s3: fs.FileSystem, score: Any, pairs: Path, source: str | None, output: str, error: type[Exception]
) -> None:
    with pytest.raises(error) as refused:
        score(source or str(pairs), output)
    assert "--resume" not in str(refused.value)
    assert ("AWS_" in str(refused.value)) == ("no-bucket" in output)


def test_what_was_done_goes_on(s3: fs.FileSystem, running: S3Server, score: Any, pairs: Path) -> None:
    def busy(method: str) -> bool:
        return not any("part-" in path for method, path in running.requests if method == "PUT")

    running.requests.clear()
    running.accepts = busy
    with pytest.raises(StoreError, match="What is done is kept: go on with --resume"):
        score(str(pairs), part_rows=6000)
    running.accepts = lambda method: True
    score(str(pairs), part_rows=6000, resume=True, engine=never)
    assert SUCCESS in stored(s3)
