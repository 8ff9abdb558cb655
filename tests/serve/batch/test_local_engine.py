"""Several processes on one machine: the same bytes, whichever process does a fragment or dies."""

from __future__ import annotations

import multiprocessing
import os
import re
import signal
import subprocess
import threading
from collections.abc import Generator
from contextlib import closing, suppress
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pyarrow.parquet as pq
import pytest
from patience import wait_until

from serve.batch.fragments import FragmentRunner, Outcome, load
from serve.batch.job import Job, Plan
from serve.batch.job_folder import PLAN, STAGED
from serve.batch.local_engine import run_locally
from serve.batch.recommend import Recommend
from serve.batch.score import Score
from serve.errors import BadRowError, BundleError, JobError

from .conftest import BUNDLE, DoJob, contents, hit_at_work, make_pairs, score_command

TWO = partial(run_locally, workers=2)
PARTS = 40
SLOWLY: dict[str, Any] = {"part_rows": 50, "batch_rows": 1}
"""So that workers are at work when something is done to them."""


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    path = tmp_path / "pairs.parquet"
    pq.write_table(make_pairs(BUNDLE, 50 * PARTS), path, row_group_size=50)
    return path


def kill_workers() -> None:
    for worker in multiprocessing.active_children():
        worker.kill()


def workers_of(parent: int) -> list[int]:
    """Process ids of the workers of another process."""
    found = []
    for entry in Path("/proc").iterdir():
        with suppress(OSError):
            is_child = entry.name.isdigit() and f"PPid:\t{parent}\n" in (entry / "status").read_text()
            if is_child and b"multiprocessing.spawn" in (entry / "cmdline").read_bytes():
                found.append(int(entry.name))
    return found


def all_gone(processes: list[int]) -> bool:
    return not any(Path(f"/proc/{process}").exists() for process in processes)


def n_parts(folder: Path) -> int:
    return len(list(folder.glob("part-*")))


@pytest.mark.parametrize("task", [Score(), Recommend()])
def test_the_bytes_of_one_process(
    task: Score | Recommend, pairs: Path, tmp_path: Path, do: DoJob, capfd: pytest.CaptureFixture[str]
) -> None:
    options = {"part_rows": 50, "batch_rows": 30, "on_bad_row": "quarantine"}
    alone = do(task, pairs, **options)
    rows: list[int] = []
    together = do(task, pairs, output=str(tmp_path / "two"), engine=TWO, on_rows=rows.append, **options)
    assert together == alone
    assert contents(tmp_path / "two") == contents(tmp_path / "out")
    assert sum(rows) == 50 * PARTS
    assert not multiprocessing.active_children()
    assert capfd.readouterr() == ("", "")


@pytest.mark.slow
def test_the_fragments_of_killed_workers_are_done_again(
    pairs: Path, tmp_path: Path, do: DoJob, caplog: pytest.LogCaptureFixture
) -> None:
    do(Score(), pairs, **SLOWLY)
    rows: list[int] = []

    def on_rows(n: int) -> None:
        rows.append(n)
        if len(rows) == 1:
            kill_workers()

    do(Score(), pairs, output=str(tmp_path / "two"), engine=TWO, on_rows=on_rows, **SLOWLY)
    assert sum(rows) == 50 * PARTS
    assert contents(tmp_path / "two") == contents(tmp_path / "out")
    assert caplog.messages == ["a worker process has died; its fragments are done again"]


def test_workers_that_die_again_and_again_stop_the_job(pairs: Path, tmp_path: Path, do: DoJob) -> None:
    over = threading.Event()

    def kill_all() -> None:
        # Both at once: Python's executor may print a traceback where one dies while it starts the other
        # (its thread iterates over the dict of workers that `submit` adds to).
        while not over.wait(0.01):
            if len(multiprocessing.active_children()) == 2:
                kill_workers()

    killer = threading.Thread(target=kill_all)
    killer.start()
    try:
        with pytest.raises(JobError, match=r"have died 3 times in a row.* --resume"):
            do(Score(), pairs, engine=TWO, **SLOWLY)
    finally:
        over.set()
        killer.join()
    do(Score(), pairs, engine=TWO, **SLOWLY)


def test_errors_of_a_worker_are_those_of_this_process(
    tmp_path: Path, do: DoJob, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "users.csv"
    path.write_text("user_id\n" + "10\n" * 50 + "x\n" + "20\n" * 50)
    with pytest.raises(BadRowError, match=r"users\.csv, line 52: user_id 'x'"):
        do(Recommend(), path, part_rows=20, engine=TWO)
    assert not multiprocessing.active_children()
    assert capfd.readouterr() == ("", "")


def test_a_worker_that_can_not_load_the_bundle_says_so(
    pairs: Path, do: DoJob, capfd: pytest.CaptureFixture[str]
) -> None:
    def engine(plan: Plan, *others: Any) -> Generator[Outcome]:
        return TWO(
            msgspec.structs.replace(plan, job=msgspec.structs.replace(plan.job, bundle="/nowhere")), *others
        )

    with pytest.raises(BundleError, match="/nowhere"):
        do(Score(), pairs, part_rows=50, engine=engine)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    "stop",
    [
        signal.SIGKILL,
        *(pytest.param(stop, marks=pytest.mark.slow) for stop in (signal.SIGTERM, signal.SIGINT)),
    ],
)
def test_workers_end_with_the_job_and_it_is_resumed(
    stop: signal.Signals, pairs: Path, tmp_path: Path, do: DoJob
) -> None:
    do(Score(), pairs, **SLOWLY)
    output, partial_output = tmp_path / "stopped", tmp_path / ".stopped.partial"
    command = score_command("--input", pairs, "--output", output, "--workers", 2)
    command += ["--part-rows", "50", "--batch-rows", "1"]

    def act(process: subprocess.Popen[str]) -> list[int]:
        workers = workers_of(process.pid)
        if stop == signal.SIGINT:
            os.killpg(process.pid, stop)  # a terminal sends it to the workers, too
        else:
            process.send_signal(stop)
        return workers

    hit = hit_at_work(command, output, lambda _: n_parts(partial_output), act)
    assert hit.returncode == (130 if stop == signal.SIGINT else -stop), hit.said
    assert "Traceback" not in hit.said
    assert len(hit.found) == 2
    wait_until(lambda: all_gone(hit.found))
    if stop == signal.SIGINT:
        assert hit.said.splitlines() == [
            "Interrupted. Finished parts are kept: run the same command with --resume."
        ]
        assert not list(partial_output.rglob(".*.tmp"))
    assert n_parts(partial_output)
    done = subprocess.run([*command, "--resume"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert contents(output) == contents(tmp_path / "out")


def test_a_worker_has_its_share_of_the_lock(pairs: Path, tmp_path: Path, do: DoJob) -> None:
    """So that no other job begins while it lives, though the process that started it was killed."""
    seen: list[bool] = []

    def look(_: int) -> None:
        lock, locks = (tmp_path / ".out.partial" / "_lock").stat().st_ino, Path("/proc/locks").read_text()
        workers = [worker.pid for worker in multiprocessing.active_children()]
        seen.append(any(re.search(rf"FLOCK .* READ +{worker} .*:{lock} ", locks) for worker in workers))

    do(Score(), pairs, engine=TWO, on_rows=look, **SLOWLY)
    assert seen[0]


def test_a_worker_that_outlives_its_job_leaves_another_job_alone(
    pairs: Path, tmp_path: Path, do: DoJob
) -> None:
    plans: list[Plan] = []

    def stopped(plan: Plan, *others: Any) -> Generator[Outcome]:
        plans.append(plan)
        raise KeyboardInterrupt
        yield

    for task in (Score(), Score(unknown="null")):
        with pytest.raises(KeyboardInterrupt):
            do(task, pairs, part_rows=50, overwrite=True, engine=stopped)
    folder, (first, second) = tmp_path / ".out.partial", plans
    recommender = load(first.job, "cpu")
    with (
        closing(FragmentRunner(first, folder, recommender, 1)) as runner,
        pytest.raises(JobError, match="another job has begun"),
    ):
        runner.run(first.fragments[0])
    assert {path.name for path in folder.iterdir()} == {PLAN, STAGED, "_lock"}
    with closing(FragmentRunner(second, folder, recommender, 1)) as runner:
        runner.run(second.fragments[0])
    assert n_parts(folder) == 1


@pytest.mark.parametrize(
    ("task", "mebibytes", "cpus", "expected"),
    [
        (Score(), 1, 64, 1),
        (Score(), 40, 64, 3),
        (Score(), 40, 2, 2),
        (Score(), 10_000, 64, 64),
        (Recommend(), 10_000, 64, 1),
    ],
)
def test_default_number_of_processes(
    task: Score | Recommend, mebibytes: int, cpus: int, expected: int
) -> None:
    job = Job(task=task, bundle="bundle", output="out", input="in")
    assert job.default_workers(mebibytes << 20, cpus) == expected
