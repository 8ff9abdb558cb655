"""Several processes on one machine: the same bytes, whoever does a fragment, and whoever dies."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pyarrow.parquet as pq
import pytest
from fixture_bundles import FIXTURES
from patience import PATIENCE, wait_until

from serve.batch import helper_process, job_folder, local_engine
from serve.batch.fragments import do_fragment, load, new_crew
from serve.batch.job import Fragment, Job, Plan
from serve.batch.job_folder import PLAN, claimed
from serve.batch.recommend import Recommend
from serve.batch.run import Watcher
from serve.batch.score import Score
from serve.errors import BadRowError, BundleError, JobError, OutputError

from .conftest import DoJob, contents, engine_of, hit_at_work, make_pairs, read

TWO = local_engine.local_engine(2)
PARTS = 12


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    path = tmp_path / "pairs.parquet"
    pq.write_table(make_pairs(FIXTURES / "dot-bias", 100 * PARTS), path, row_group_size=100)
    return path


def helpers_of(parent: int) -> list[int]:
    """Process ids of those that are alive."""
    found = []
    for entry in Path("/proc").iterdir():
        with suppress(OSError):
            is_child = entry.name.isdigit() and f"PPid:\t{parent}\n" in (entry / "status").read_text()
            if is_child and b"serve.batch.helper" in (entry / "cmdline").read_bytes():
                found.append(int(entry.name))
    return found


def all_gone(processes: list[int]) -> bool:
    return not any(Path(f"/proc/{process}").exists() for process in processes)


@contextmanager
def first_waits(monkeypatch: pytest.MonkeyPatch, act: Callable[[Path], object]) -> Iterator[None]:
    """This process is held up at its first fragment, until `act` of the job's folder has returned."""

    def slow(plan: Plan, fragment: Fragment, folder: Path, *others: Any) -> Any:
        monkeypatch.setattr(local_engine, "do_fragment", do_fragment)
        act(folder)
        return do_fragment(plan, fragment, folder, *others)

    monkeypatch.setattr(local_engine, "do_fragment", slow)
    yield
    assert local_engine.do_fragment is do_fragment


def n_parts(folder: Path) -> int:
    return len(list(folder.glob("part-*")))


@pytest.mark.parametrize("task", [Score(), Recommend()])
def test_a_helper_does_what_is_left(
    task: Score | Recommend, pairs: Path, tmp_path: Path, do: DoJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {"part_rows": 100, "batch_rows": 30, "on_bad_row": "quarantine"}
    alone = do(task, pairs, **options)
    with first_waits(monkeypatch, lambda folder: wait_until(lambda: n_parts(folder) == PARTS - 1)):
        together = do(task, pairs, output=str(tmp_path / "two"), engine=TWO, **options)
    assert together == alone
    assert contents(tmp_path / "two") == contents(tmp_path / "out")
    assert not helpers_of(os.getpid())


def test_what_a_killed_helper_was_at_is_done_by_others(
    pairs: Path,
    tmp_path: Path,
    do: DoJob,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    do(Score(), pairs, part_rows=100, batch_rows=1)

    rows: list[int] = []
    killed = threading.Event()

    def on_rows(n: int) -> None:
        """Of the thread that gives the helper its work: none is given meanwhile."""
        rows.append(n)
        if not killed.is_set() and n_parts(tmp_path / ".two.partial"):
            for helper in helpers_of(os.getpid()):
                os.kill(helper, signal.SIGKILL)
            killed.set()

    options: dict[str, Any] = {"part_rows": 100, "batch_rows": 1, "output": str(tmp_path / "two")}
    with first_waits(monkeypatch, lambda _: wait_until(killed.is_set)):
        do(Score(), pairs, engine=TWO, watcher=Watcher(on_rows=on_rows), **options)
    assert sum(rows) == 100 * PARTS
    assert contents(tmp_path / "two") == contents(tmp_path / "out")
    assert caplog.messages == ["a helper has died (status -9); others do its work"]


def test_rows_are_told_as_they_are_answered(pairs: Path, do: DoJob, monkeypatch: pytest.MonkeyPatch) -> None:
    rows: list[int] = []
    with first_waits(monkeypatch, lambda folder: wait_until(lambda: n_parts(folder) == PARTS - 1)):
        do(Score(), pairs, part_rows=100, batch_rows=30, engine=TWO, watcher=Watcher(on_rows=rows.append))
    assert sum(rows) == 100 * PARTS
    assert len(rows) > PARTS


def test_errors_of_a_helper_are_those_of_this_process(
    tmp_path: Path, do: DoJob, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "users.csv"
    path.write_text("user_id\n" + "10\n" * 50 + "x\n" + "20\n" * 50)

    told, ended = threading.Event(), helper_process.Board.ended

    def tell(board: helper_process.Board, *what: Any) -> None:
        ended(board, *what)
        told.set()

    monkeypatch.setattr(helper_process.Board, "ended", tell)
    with (
        first_waits(monkeypatch, lambda folder: wait_until(told.is_set)),  # the helper comes to the bad row
        pytest.raises(BadRowError, match=r"users\.csv, row 51: user_id 'x'"),
    ):
        do(Recommend(), path, part_rows=20, engine=TWO)
    assert not caplog.messages
    assert not helpers_of(os.getpid())


def test_a_helper_that_can_not_load_the_bundle_says_so(
    pairs: Path, do: DoJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    def elsewhere(plan: Plan) -> Plan:
        return msgspec.structs.replace(plan, job=msgspec.structs.replace(plan.job, bundle="/nowhere"))

    @contextmanager
    def engine(job: Job) -> Iterator[Any]:
        with TWO(job) as work:
            yield lambda plan, *others: work(elsewhere(plan), *others)

    def wait(folder: Path) -> None:
        wait_until(lambda: not helpers_of(os.getpid()))

    # This process has the bundle already: only the helper can miss it.
    with first_waits(monkeypatch, wait), pytest.raises(BundleError, match="/nowhere"):
        do(Score(), pairs, part_rows=100, engine=engine)


def command(pairs: Path, output: Path) -> list[str]:
    arguments = [sys.executable, "-m", "recsys", "score", str(FIXTURES / "dot-bias"), "--device", "cpu"]
    arguments += ["--input", str(pairs), "--output", str(output), "--workers", "2"]
    return [*arguments, "--part-rows", "100", "--batch-rows", "1"]


@pytest.mark.parametrize("stop", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_helpers_end_with_the_job_and_it_is_resumed(
    stop: signal.Signals, pairs: Path, tmp_path: Path, do: DoJob
) -> None:
    do(Score(), pairs, part_rows=100, batch_rows=1)
    output, partial_output = tmp_path / "stopped", tmp_path / ".stopped.partial"

    def act(process: subprocess.Popen[str]) -> list[int]:
        helpers = helpers_of(process.pid)
        process.send_signal(stop)
        return helpers

    def ready(process: int) -> bool:
        return bool(n_parts(partial_output) and helpers_of(process))

    hit = hit_at_work(command(pairs, output), output, ready, act)
    assert hit.returncode == (130 if stop == signal.SIGINT else -stop), hit.said
    assert "Traceback" not in hit.said
    wait_until(lambda: all_gone(hit.found))
    if stop == signal.SIGINT:
        assert not list(partial_output.rglob(".*.tmp"))
    done = subprocess.run([*command(pairs, output), "--resume"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert contents(output) == contents(tmp_path / "out")


def test_a_helper_has_its_share_of_the_lock(pairs: Path, do: DoJob, monkeypatch: pytest.MonkeyPatch) -> None:
    def look(folder: Path) -> None:
        (helper,) = helpers_of(os.getpid())
        lock = (folder / "_lock").stat().st_ino
        wait_until(lambda: re.search(rf"FLOCK .* READ +{helper} .*:{lock} ", Path("/proc/locks").read_text()))

    with first_waits(monkeypatch, look):
        do(Score(), pairs, part_rows=100, engine=TWO)


def test_no_other_job_begins_while_somebody_has_a_share(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / ".out.partial"
    with claimed(folder):
        code = "import fcntl, sys, time; lock = open(sys.argv[1]); fcntl.flock(lock, fcntl.LOCK_SH);"
        code += "print(flush=True); sys.stdin.read()"
        line = [sys.executable, "-c", code, str(folder / "_lock")]
        helper = subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert helper.stdin
        assert helper.stdout
        helper.stdout.readline()
    with monkeypatch.context() as impatient:
        impatient.setattr(job_folder, "PATIENCE", 0)
        with pytest.raises(OutputError, match="belongs to a job that is running"), claimed(folder):
            pass
    monkeypatch.setattr(job_folder, "PATIENCE", PATIENCE)
    threading.Timer(0.2, helper.stdin.close).start()
    with claimed(folder):  # once it has ended
        assert helper.wait(PATIENCE) == 0
    helper.stdout.close()


def test_ctrl_c_is_for_the_job_and_not_for_its_helpers(pairs: Path, tmp_path: Path) -> None:
    for attempt in range(4):
        output = tmp_path / f"out-{attempt}"

        def act(process: subprocess.Popen[str], pause: float = 0.05 * attempt) -> list[int]:
            helpers = helpers_of(process.pid)
            time.sleep(pause)
            os.killpg(process.pid, signal.SIGINT)  # as a terminal does
            return helpers

        hit = hit_at_work(command(pairs, output), output, helpers_of, act)
        assert hit.returncode == 130, hit.said
        assert "Traceback" not in hit.said
        assert "has died" not in hit.said
        wait_until(partial(all_gone, hit.found))


def test_what_killed_processes_were_writing_is_swept_up(
    pairs: Path, tmp_path: Path, do: DoJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    do(Score(), pairs, part_rows=100)

    def litter(folder: Path) -> None:
        for place in (folder, folder / "_done", folder / "_quarantine"):
            place.mkdir(exist_ok=True)
            (place / ".part-00003.0123abcd.tmp").write_text("half")

    with first_waits(monkeypatch, litter):
        do(Score(), pairs, part_rows=100, output=str(tmp_path / "two"), engine=TWO)
    assert contents(tmp_path / "two") == contents(tmp_path / "out")


def test_helpers_run_the_code_of_this_process(pairs: Path, tmp_path: Path) -> None:
    """Wherever that comes from: an installed package of another version would make other parts."""
    code = Path(local_engine.__file__).parents[1]
    shutil.copytree(code, tmp_path / "code" / "serve", ignore=shutil.ignore_patterns("__pycache__"))
    module = tmp_path / "code" / "serve" / "runs.py"
    module.write_text(
        module.read_text().replace("    return scores\n", "    return scores + np.float32(100)\n")
    )
    program = f"""
import sys, time
sys.path.insert(0, {str(tmp_path / "code")!r})
from pathlib import Path
from serve.batch import local_engine, run
from serve.batch.job import Job
from serve.batch.score import Score
do_fragment = local_engine.do_fragment
def slow(plan, fragment, folder, *others):
    while len(list(folder.glob("part-*"))) < {PARTS - 1} and not fragment.number:
        time.sleep(0.01)
    return do_fragment(plan, fragment, folder, *others)
local_engine.do_fragment = slow
job = Job(task=Score(), bundle={str(FIXTURES / "dot-bias")!r}, input={str(pairs)!r}, part_rows=100,
          output={str(tmp_path / "out")!r}, device="cpu")
run.run_job(job, engine=local_engine.local_engine(2))
"""
    subprocess.run([sys.executable, "-c", program], check=True, cwd=tmp_path, timeout=PATIENCE)
    assert min(read(tmp_path / "out")["score"].to_pylist()) > 100


def test_what_libraries_print_is_no_reply(pairs: Path, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("print('hello')")
    line = command(pairs, tmp_path / "out")
    done = subprocess.run(
        line, env=os.environ | {"PYTHONPATH": str(tmp_path)}, capture_output=True, text=True, timeout=PATIENCE
    )
    assert done.returncode == 0, done.stderr
    assert not done.stderr


def test_there_are_no_more_processes_than_fragments(
    pairs: Path, tmp_path: Path, do: DoJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: list[int] = []
    for part_rows in (1200, 600):
        with first_waits(monkeypatch, lambda _: found.append(len(helpers_of(os.getpid())))):
            engine = local_engine.local_engine(50)
            do(Score(), pairs, part_rows=part_rows, output=str(tmp_path / f"{part_rows}"), engine=engine)
    assert found == [0, 1]


def test_without_room_for_helpers_it_goes_on_alone(
    pairs: Path, do: DoJob, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    assert do(Score(), pairs, part_rows=100, engine=TWO).rows_out == 100 * PARTS
    assert "no more than 0 helpers could be started" in caplog.text


def test_who_outlives_its_job_leaves_another_job_alone(pairs: Path, tmp_path: Path, do: DoJob) -> None:
    plans: list[Plan] = []

    def stopped(plan: Plan, *others: Any) -> None:
        plans.append(plan)
        raise KeyboardInterrupt

    for task in (Score(), Score(unknown="null")):
        with pytest.raises(KeyboardInterrupt):
            do(task, pairs, part_rows=100, overwrite=True, engine=engine_of(stopped))
    folder, (first, second) = tmp_path / ".out.partial", plans
    recommender = load(first.job.bundle, "cpu")
    with new_crew(recommender, 1) as crew:
        with pytest.raises(JobError, match="another job has begun"):
            do_fragment(first, first.fragments[0], folder, recommender, crew)
        assert {path.name for path in folder.iterdir()} == {PLAN, "_lock"}
        do_fragment(second, second.fragments[0], folder, recommender, crew)
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
def test_processes_are_started_where_they_are_worth_it(
    task: Score | Recommend, mebibytes: int, cpus: int, expected: int
) -> None:
    job = Job(task=task, bundle="bundle", output="out", input="in")
    assert job.workers_worth_while(mebibytes << 20, cpus) == expected


def test_a_large_input_has_helpers(tmp_path: Path, do: DoJob, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local_engine, "available_cpus", lambda: 2)
    path, n = tmp_path / "pairs.csv", 9_000_000 // len("10,1001\n")
    path.write_text("user_id,item_id\n" + "10,1001\n" * n)
    assert path.stat().st_size < 16 << 20
    large = tmp_path / "large.csv"
    large.write_text("user_id,item_id\n" + "10,1001\n" * (2 * n))

    def count(folder: Path) -> None:
        found.append(len(helpers_of(os.getpid())))

    found: list[int] = []
    for source in (path, large):
        with first_waits(monkeypatch, count):
            do(Score(), source, output=str(tmp_path / source.stem), part_rows=n // 2)
    assert found == [0, 1]
