"""Jobs of the small bundles, in this process and in others."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fixture_bundles import FIXTURES
from patience import PATIENCE, wait_until
from pyarrow import fs

from serve.batch.job import Job
from serve.batch.job_folder import SUCCESS
from serve.batch.recommend import Recommend
from serve.batch.run import JobSummary, run_job
from serve.batch.score import Score
from serve.batch.stored_job import run_stored_job
from serve.runtime.recommender import Recommender

if TYPE_CHECKING:
    from .s3_server import S3Server

DoJob = Callable[..., JobSummary]
BUNDLE = FIXTURES / "dot-bias"
OUT = "s3://bucket/night/scored"


def make_pairs(bundle: Path, n: int, seed: int = 0) -> pa.Table:
    """Pairs of a bundle's ids, one in ten unknown, with two columns more."""
    recommender, rng = Recommender.load(bundle, "cpu"), np.random.default_rng(seed)
    users, items = recommender.users, recommender.items.ids

    def ids(table: Any, stranger: Any) -> list[Any]:
        index = rng.integers(0, len(table) + 1, n) * (rng.random(n) > 0.1)
        return [table.one_id(int(i)) if i else stranger for i in index]

    unknown: tuple[Any, Any] = ("nobody", "nothing") if users.is_string else (-7, 777)
    return pa.table(
        {
            "when": pa.array(rng.integers(0, 1 << 40, n), pa.timestamp("ms")),
            "user_id": ids(users, unknown[0]),
            "item_id": ids(items, unknown[1]),
            "note": [f"n{i}" if i % 3 else None for i in range(n)],
        }
    )


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    """12,000 pairs in row groups of 400."""
    path = tmp_path / "pairs.parquet"
    pq.write_table(make_pairs(BUNDLE, 12_000), path, row_group_size=400)
    return path


def score_command(*arguments: object) -> list[str]:
    """`recsys score` as a process."""
    return [sys.executable, "-m", "recsys", "score", str(BUNDLE), "--device", "cpu", *map(str, arguments)]


@dataclass
class Hit:
    """A job in a process of its own, after something was done to it."""

    returncode: int
    said: str
    found: Any
    """What was seen or done."""


def hit_at_work(
    line: list[str],
    output: Path,
    ready: Callable[[int], object],
    act: Callable[[subprocess.Popen[str]], Any],
    env: dict[str, str] | None = None,
) -> Hit:
    """Start a job, and act on it once it is ready (a function of its process id).

    A job that finished before is repeated: this process may be held up, too.
    """
    for _ in range(20):
        found = None
        with (
            tempfile.TemporaryFile("w+") as stderr,  # a pipe would have to be read meanwhile
            subprocess.Popen(
                line, stdin=subprocess.DEVNULL, stderr=stderr, text=True, start_new_session=True, env=env
            ) as process,
        ):
            try:
                wait_until(lambda process=process: process.poll() is not None or ready(process.pid))
                if process.poll() is None:
                    found = act(process)
                process.wait(PATIENCE)
            finally:
                process.kill()
            stderr.seek(0)
            said = stderr.read()
        if not output.exists():
            return Hit(process.returncode, said, found)
        assert (output / SUCCESS).is_file(), "an output is whole or absent"
        shutil.rmtree(output)
    raise AssertionError("the job always finished too soon")


@pytest.fixture
def do(tmp_path: Path) -> DoJob:
    """Run a job of the `dot-bias` bundle into `out`; any field of the job, or of `run_job`, may be given."""

    def run(task: Score | Recommend, source: Path | str | None = None, **options: Any) -> JobSummary:
        keywords = {
            name: options.pop(name)
            for name in ("resume", "overwrite", "engine", "on_plan", "on_rows")
            if name in options
        }
        job = {"bundle": str(BUNDLE), "output": str(tmp_path / "out"), "device": "cpu"} | options
        return run_job(Job(task=task, input=None if source is None else str(source), **job), **keywords)

    return run


def read(folder: Path) -> pa.Table:
    """All Parquet parts, in order."""
    return pa.concat_tables([pq.read_table(part) for part in sorted(folder.glob("part-*.parquet"))])


def as_given(scored: pa.Table, pairs: pa.Table) -> pa.Table:
    """Pairs without what was added; ids are known to be there now."""
    return scored.drop_columns(["score", "known"]).cast(pairs.schema)


def contents(folder: Path) -> dict[str, bytes]:
    """Every file, by its path in the folder."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


@pytest.fixture(scope="session")
def running() -> Iterator[S3Server]:
    from .s3_server import s3_server  # moto is slow to load

    with s3_server() as server:
        yield server


@pytest.fixture
def s3(running: S3Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[fs.FileSystem]:
    """The server's objects; the bucket is empty."""
    for name, value in running.variables.items():
        monkeypatch.setenv(name, value)
    files, _ = fs.FileSystem.from_uri("s3://bucket?allow_bucket_creation=true&allow_bucket_deletion=true")
    files.create_dir("bucket")
    running.accepts = lambda method: True
    yield files
    running.accepts = lambda method: True
    files.delete_dir("bucket")


def put(files: fs.FileSystem, key: str, data: bytes) -> None:
    with files.open_output_stream(f"bucket/{key}") as stream:
        stream.write(data)


def stored(files: fs.FileSystem, folder: str = "night/scored") -> dict[str, bytes]:
    selector = fs.FileSelector(f"bucket/{folder}", recursive=True, allow_not_found=True)
    return {
        found.path.removeprefix(f"bucket/{folder}/"): files.open_input_stream(found.path).read()
        for found in files.get_file_info(selector)
        if found.is_file
    }


@pytest.fixture
def score(tmp_path: Path) -> Callable[..., JobSummary]:
    """Score an input into `OUT` by way of the folder `work`."""

    def run(source: str, output: str = OUT, task: Any = None, **options: Any) -> JobSummary:
        names = ("part_rows", "on_bad_row", "partition_by")
        fields = {name: options.pop(name) for name in names if name in options}
        job = Job(
            task=task or Score(), bundle=str(BUNDLE), input=source, output=output, device="cpu", **fields
        )
        return run_stored_job(job, options.pop("work", tmp_path / "work"), **options)

    return run


@pytest.fixture
def expected(do: DoJob, pairs: Path, tmp_path: Path) -> dict[str, bytes]:
    """What the job of this machine writes: parts of 4,000 pairs."""
    do(Score(), pairs, part_rows=4000)
    return contents(tmp_path / "out")
