"""Jobs whose input and output lie in an S3 store."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import urllib.request
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow.csv as pa_csv
import pytest
from pyarrow import fs

from serve.batch.job import Job
from serve.batch.job_folder import SUCCESS
from serve.batch.object_store import Store
from serve.batch.recommend import Recommend
from serve.batch.score import Score
from serve.batch.stored_job import run_stored_job
from serve.errors import FullDiskError, InputError, OutputError, StoreError

from .conftest import BUNDLE, OUT, DoJob, contents, make_pairs, put, score_command, stored
from .s3_server import S3Server

WRITES = ("PUT", "POST", "DELETE")


def test_a_store_gets_the_bytes_that_a_folder_gets(
    s3: fs.FileSystem, score: Any, pairs: Path, expected: dict[str, bytes], tmp_path: Path
) -> None:
    put(s3, "in/pairs.parquet", pairs.read_bytes())
    summary = score("s3://bucket/in/pairs.parquet", part_rows=4000)
    assert summary.rows_in == 12_000
    assert stored(s3) == expected
    assert not (tmp_path / "work").exists()
    with pytest.raises(OutputError, match="already there"):
        score("s3://bucket/in/pairs.parquet", part_rows=4000)
    score("s3://bucket/in/pairs.parquet", part_rows=2000, overwrite=True)
    assert len(stored(s3)) == 7
    assert not [name for name in stored(s3) if name.startswith("_new")]


def test_an_input_alone_or_an_output_alone(
    s3: fs.FileSystem, score: Any, pairs: Path, expected: dict[str, bytes], tmp_path: Path
) -> None:
    put(s3, "in/pairs.parquet", pairs.read_bytes())
    score(str(pairs), part_rows=4000)
    assert stored(s3) == expected
    score("s3://bucket/in/pairs.parquet", str(tmp_path / "here"), part_rows=4000)
    assert contents(tmp_path / "here") == expected
    job = Job(task=Recommend(), bundle=str(BUNDLE), output="s3://bucket/lists", device="cpu")
    assert run_stored_job(job, tmp_path / "work").rows_out > 0
    assert SUCCESS in stored(s3, "lists")


@pytest.mark.parametrize(
    ("asked", "days"),
    [
        ("in", [1, 2, 3]),
        ("in/*", [1, 2, 3]),
        ("in/day=[12]", [1, 2]),
        ("in/day=3", [3]),
        ("in/day=2/b.csv", [2]),
        ("in/day=2/*.csv", [2]),
    ],
)
def test_folders_and_patterns_stand_for_what_they_stand_for_here(
    s3: fs.FileSystem, score: Any, tmp_path: Path, asked: str, days: list[int]
) -> None:
    root = tmp_path / "in"
    for day in (1, 2, 3):
        (root / f"day={day}").mkdir(parents=True)
        table = make_pairs(BUNDLE, 5, day).select(["user_id", "item_id"])
        pa_csv.write_csv(table, root / f"day={day}" / "b.csv")
    (root / "_temporary").mkdir()
    (root / "_temporary" / "c.csv").write_text("user_id,item_id\n1,1\n")
    (root / ".hidden.csv").write_text("user_id,item_id\n1,1\n")
    for name, data in contents(root).items():
        put(s3, f"in/{name}", data)
    assert score(f"s3://bucket/{asked}", str(tmp_path / "a")).rows_in == 5 * len(days)
    score(str(tmp_path / asked), "s3://bucket/b")
    assert stored(s3, "b") == contents(tmp_path / "a")


def test_bad_rows_are_stored_too(s3: fs.FileSystem, score: Any) -> None:
    put(s3, "in.csv", b"user_id,item_id\n1,1\n1.0,2\n")
    assert score("s3://bucket/in.csv", on_bad_row="quarantine").quarantined == 1
    assert "1.0" in stored(s3)["_quarantine/part-00000.jsonl"].decode()


def check_whole(objects: dict[str, bytes]) -> None:
    """What readers rely on: where there is `_SUCCESS.json`, its parts are there with their bytes."""
    if SUCCESS in objects:
        for part in json.loads(objects[SUCCESS])["parts"]:
            assert hashlib.sha256(objects[part["name"]]).hexdigest() == part["sha256"]


def kill_at(running: S3Server, n: int, arguments: list[str], folder: Path) -> int:
    """Kill a job at its nth write to the store, which is not carried out any more; its exit status.

    Were it, it could change the objects while the test reads them: nobody waits for its answer.
    """
    writes = 0
    with subprocess.Popen(
        score_command(*arguments),
        cwd=folder,
        env=os.environ | running.variables,
        stdin=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    ) as process:

        def count(method: str) -> bool:
            nonlocal writes
            writes += method in WRITES
            if writes < n:
                return True
            process.kill()
            process.wait()
            return False

        running.accepts = count
        process.wait()
    running.accepts = lambda method: True
    return process.returncode


@pytest.mark.parametrize(
    "n", [pytest.param(n, marks=() if n == 8 else pytest.mark.slow) for n in range(1, 22)]
)
def test_a_killed_job_leaves_the_old_output_or_none_and_is_resumed(
    s3: fs.FileSystem,
    running: S3Server,
    score: Any,
    pairs: Path,
    expected: dict[str, bytes],
    tmp_path: Path,
    n: int,
) -> None:
    put(s3, "old.csv", b"user_id,item_id\n1,1\n")
    score("s3://bucket/old.csv")
    put(s3, "in/pairs.parquet", pairs.read_bytes())
    line = ["--input", "s3://bucket/in/pairs.parquet", "--output", OUT, "--part-rows", "4000"]
    status = kill_at(running, n, [*line, "--overwrite"], tmp_path)
    check_whole(stored(s3))
    assert status == -signal.SIGKILL
    again = subprocess.run(
        score_command(*line, "--resume", "--overwrite"),
        cwd=tmp_path,
        env=os.environ | running.variables,
        capture_output=True,
        text=True,
    )
    assert again.returncode == 0, again.stderr
    assert stored(s3) == expected
    assert not (tmp_path / ".scored.job").exists()


def test_what_was_fetched_is_kept_and_what_changed_is_fetched_again(
    s3: fs.FileSystem, running: S3Server, score: Any, tmp_path: Path
) -> None:
    for name in "abc":
        put(s3, f"in/{name}.csv", b"user_id,item_id\n1,1\n")
    put(s3, "in/d.csv", b"user_id,item\n1,1\n")
    with pytest.raises(InputError, match="alike"):
        score("s3://bucket/in")
    put(s3, "in/d.csv", b"user_id,item_id\n1,2\n")
    s3.delete_file("bucket/in/c.csv")
    running.requests.clear()
    assert score("s3://bucket/in").rows_in == 3
    fetched = [path for method, path in running.requests if method == "GET" and path.endswith(".csv")]
    assert fetched == ["/bucket/in/d.csv"]


def test_an_output_never_replaces_its_own_input(s3: fs.FileSystem, score: Any, pairs: Path) -> None:
    score(str(pairs))
    before = stored(s3)
    for source in (OUT, f"{OUT}/*.parquet", f"{OUT}/part-00000.parquet", "s3://bucket"):
        with pytest.raises(OutputError, match="lies in s3://bucket/night/scored"):
            score(source, overwrite=True)
    assert stored(s3) == before


def test_objects_of_another_address_are_fetched_anew(s3: fs.FileSystem, score: Any) -> None:
    """Even if name, size and time are those of one that was fetched: a store counts in seconds."""
    for _ in range(10):
        put(s3, "a/x.csv", b"user_id,things_\n1,1\n")
        put(s3, "b/x.csv", b"user_id,item_id\n1,1\n")
        a, b = s3.get_file_info(["bucket/a/x.csv", "bucket/b/x.csv"])
        if a.mtime_ns == b.mtime_ns:
            break
    with pytest.raises(InputError, match="no column"):
        score("s3://bucket/a")
    assert score("s3://bucket/b").rows_in == 1


def test_a_work_folder_holds_nothing_else(
    score: Any, expected: dict[str, bytes], pairs: Path, tmp_path: Path, s3: fs.FileSystem
) -> None:
    (tmp_path / "out").rename(tmp_path / "work")
    with pytest.raises(OutputError, match="--work-folder"):
        score(str(pairs))
    assert contents(tmp_path / "work") == expected


def test_half_an_output_that_has_changed_is_put_again(
    s3: fs.FileSystem, score: Any, pairs: Path, expected: dict[str, bytes]
) -> None:
    """Killed while files got their names; then one was deleted, and another job has put one."""
    score(str(pairs), part_rows=4000)
    put(s3, f"night/scored/_new-{hashlib.sha256(expected[SUCCESS]).hexdigest()[:16]}/_all-put", b"")
    for name in (SUCCESS, "part-00001.parquet"):
        s3.delete_file(f"bucket/night/scored/{name}")
    put(s3, "night/scored/part-00009.parquet", b"theirs")
    score(str(pairs), part_rows=4000, resume=True)
    assert stored(s3) == expected


def test_odd_names(s3: fs.FileSystem, score: Any, do: DoJob, tmp_path: Path) -> None:
    values = ["a b", "50%25", "a+b", "é", "#1", "x/y", "?", "", ".."]
    lines = ["user_id,item_id,kind", *(f"1,1,{value}" for value in values)]
    source = tmp_path / "in.csv"
    source.write_text("\n".join(lines) + "\n")
    do(Score(), source, partition_by="kind")
    score(str(source), partition_by="kind")
    assert stored(s3) == contents(tmp_path / "out")
    for name in ("a b+c%20é#?1.csv", "a b+c%20é#?2.csv", "other.csv"):
        put(s3, f"in/{name}", source.read_bytes())
    for asked, n_files in (("in", 3), ("in/a%20b%2Bc%2520*", 2), ("in/a%20b%2Bc%2520%C3%A9%23%3F1.csv", 1)):
        assert score(f"s3://bucket/{asked}", str(tmp_path / "found")).rows_in == n_files * len(values)
        shutil.rmtree(tmp_path / "found")


@pytest.mark.parametrize(
    ("source", "error", "said"),
    [
        ("s3://bucket/nothing", InputError, "no such object"),
        ("s3://bucket/nothing/*.csv", InputError, "no such object"),
        ("s3://no-bucket/x.csv", InputError, "no such object"),
        ("s3://bucket/*/x.csv", InputError, "only the last name"),
        ("s3://key:secret@bucket/x.csv", InputError, "password"),
        ("s3://key:sec/secret@bucket/x.csv", InputError, "password"),
        ("s3://bucket/nothing?region=us-east-1", InputError, "s3://bucket/nothing: no such"),
        ("s3://bucket/*/x.csv?region=secret@", InputError, "only the last name"),
        ("s3://bucket/nothing?sig=secret@", StoreError, "sig"),
        ("s3://bucket/in#2/x.csv", InputError, "%23"),
        ("s3:///x.csv", StoreError, "bucket"),
        ("s3://", InputError, "names no bucket"),
        ("ftp3://bucket/x.csv", StoreError, "ftp3"),
        ("hdfs://127.0.0.1:1/x.csv", StoreError, "hdfs"),
    ],
)
def test_inputs_that_are_refused(s3: fs.FileSystem, score: Any, source: str, error: Any, said: str) -> None:
    with pytest.raises(error, match=said) as raised:
        score(source)
    assert "secret@" not in str(raised.value)
    assert stored(s3) == {}


@pytest.mark.parametrize("key", ["../up.csv", "a//b.csv", "./b.csv", "a/../b.csv"])
def test_names_that_lead_elsewhere(key: str, s3: fs.FileSystem, score: Any, tmp_path: Path) -> None:
    """Arrow may normalise or refuse such a name itself; in no case is a file written elsewhere."""
    url = f"{os.environ['AWS_ENDPOINT_URL']}/bucket/in/{key}"
    urllib.request.urlopen(urllib.request.Request(url, b"user_id,item_id\n1,1\n", method="PUT")).close()
    before = {path for path in tmp_path.rglob("*") if "work" not in path.parts}
    with suppress(InputError, StoreError):
        score("s3://bucket/in")
    assert {path for path in tmp_path.rglob("*") if "work" not in path.relative_to(tmp_path).parts} == before


def test_a_name_that_is_an_object_and_a_folder(s3: fs.FileSystem, score: Any) -> None:
    put(s3, "in/a.csv", b"user_id,item_id\n1,1\n")
    put(s3, "in/a.csv/b.csv", b"user_id,item_id\n1,1\n")
    with pytest.raises((InputError, StoreError)):
        score("s3://bucket/in")


@pytest.mark.parametrize("name", ["theirs.csv", "_new-arrivals/theirs.csv"])
def test_foreign_objects_are_never_replaced(s3: fs.FileSystem, score: Any, pairs: Path, name: str) -> None:
    put(s3, f"night/scored/{name}", b"theirs")
    for options in ({}, {"overwrite": True}, {"resume": True}):
        with pytest.raises(OutputError, match="isn't ours"):
            score(str(pairs), **options)
    assert stored(s3) == {name: b"theirs"}
    with pytest.raises(OutputError, match="is an object"):
        score(str(pairs), f"{OUT}/{name}", overwrite=True)
    with pytest.raises(OutputError, match="no pattern"):
        score(str(pairs), "s3://bucket/night/*")


def test_a_store_that_refuses_says_so_before_the_work(
    s3: fs.FileSystem, running: S3Server, score: Any, pairs: Path, tmp_path: Path
) -> None:
    plans: list[Any] = []
    with pytest.raises(StoreError, match="no-bucket"):
        score(str(pairs), "s3://no-bucket/out", on_plan=lambda plan, rows: plans.append(plan))
    assert not plans
    assert not (tmp_path / "work").exists()


def test_a_disk_without_room_for_the_input(
    s3: fs.FileSystem, score: Any, pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(s3, "in/pairs.parquet", pairs.read_bytes())
    real = os.statvfs

    def little(path: Any) -> Any:
        found = list(real(path))
        found[4] = 1  # f_bavail
        return os.statvfs_result(found)

    monkeypatch.setattr(os, "statvfs", little)
    with pytest.raises(FullDiskError, match="--work-folder"):
        score("s3://bucket/in/pairs.parquet")


def test_the_command(s3: fs.FileSystem, recsys: Any, pairs: Path, tmp_path: Path) -> None:
    put(s3, "in/pairs.parquet", pairs.read_bytes())
    line = ("score", BUNDLE, "--device", "cpu", "--input", "s3://bucket/in/pairs.parquet", "--output", OUT)
    code, out, err = recsys(*line, "--work-folder", tmp_path / "w")
    assert (code, err) == (0, "")
    assert f"{OUT}: 12,000 rows" in out
    code, _, err = recsys(*line)
    assert code == 2
    assert "--overwrite" in err
    code, _, err = recsys(
        "score", BUNDLE, "--input", pairs, "--output", tmp_path / "x", "--work-folder", tmp_path
    )
    assert code == 2
    assert "--work-folder" in err


def test_objects_are_read_up_to_a_bound(s3: fs.FileSystem) -> None:
    put(s3, "x/long", b"123456")
    assert Store("s3://bucket/x").read("long", 3) == b"123"
    assert Store("s3://bucket/x").read("short", 3) is None
