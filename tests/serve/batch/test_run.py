"""Nothing lost, nothing half-written: killed, resumed, overwritten, on full and read-only disks."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from fixture_bundles import FIXTURES

from serve.batch.fragments import Outcome
from serve.batch.job_folder import PLAN, SUCCESS
from serve.batch.local_engine import run_locally
from serve.batch.recommend import Recommend
from serve.batch.score import Score
from serve.errors import BadRowError, InputError, JobError, OutputError

from .conftest import BUNDLE, DoJob, contents, hit_at_work, make_pairs, read, score_command

SMALL = ("--part-rows", "400", "--batch-rows", "100")


def has_begun(output: Path) -> Callable[[int], bool]:
    return lambda _: output.with_name(f".{output.name}.partial").joinpath(PLAN).exists()


def kill_and_resume(pairs: Path, output: Path, kills: int, seed: int) -> int:
    """Run a job that is killed at random moments until it ends; returns how often it really was."""
    rng, killed = np.random.default_rng(seed), 0
    arguments = score_command("--input", pairs, "--output", output, *SMALL)
    partial = output.with_name(f".{output.name}.partial")
    for attempt in range(kills):
        process = subprocess.Popen([*arguments, *(["--resume"] if attempt else [])], stderr=subprocess.PIPE)
        # Only once it writes: being killed while Python starts proves nothing.
        while process.poll() is None and not (partial / PLAN).exists():
            time.sleep(0.005)
        time.sleep(float(rng.uniform(0, 0.15)))
        process.kill()
        _, said = process.communicate()
        if process.returncode == -signal.SIGKILL:
            killed += 1
        else:
            assert process.returncode == 0, said
        for part in partial.glob("part-*.parquet"):
            assert pq.read_table(part).num_rows == 400, "a part is whole or absent"
        if output.exists() and not killed:  # it was too quick for us
            shutil.rmtree(output)
        elif output.exists():
            break
    done = subprocess.run([*arguments, "--resume"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return killed


@pytest.mark.parametrize("rounds", [1, pytest.param(30, marks=pytest.mark.slow)])
def test_killed_at_random_moments_it_ends_with_the_bytes_of_an_unbroken_run(
    rounds: int, pairs: Path, tmp_path: Path, do: DoJob
) -> None:
    do(Score(), pairs, part_rows=400, batch_rows=100)
    killed = 0
    for seed in range(rounds):
        killed += kill_and_resume(pairs, tmp_path / "killed", kills=5, seed=1 + seed)
        assert contents(tmp_path / "killed") == contents(tmp_path / "out")
        assert {path.name for path in tmp_path.iterdir()} == {"pairs.parquet", "out", "killed"}
        shutil.rmtree(tmp_path / "killed")
    assert killed >= 2 * rounds


@pytest.mark.slow
def test_interrupted_and_interrupted_again(pairs: Path, tmp_path: Path) -> None:
    for attempt in range(3):
        output = tmp_path / f"out-{attempt}"
        arguments = score_command("--input", pairs, "--output", output, "--batch-rows", "2")

        def interrupt_twice(process: subprocess.Popen[str], pause: float = 0.02 * attempt) -> None:
            process.send_signal(signal.SIGINT)
            time.sleep(pause)
            process.send_signal(signal.SIGINT)

        hit = hit_at_work(arguments, output, has_begun(output), interrupt_twice)
        assert hit.returncode == 130, hit.said
        assert "Traceback" not in hit.said


def stop_after(n: int) -> Any:
    """The local engine, interrupted after n fragments."""

    def engine(plan: Any, fragments: Any, *others: Any) -> Generator[Outcome]:
        yield from run_locally(plan, fragments[:n], *others)
        raise KeyboardInterrupt

    return engine


def test_only_the_same_job_goes_on(pairs: Path, tmp_path: Path, do: DoJob) -> None:
    with pytest.raises(KeyboardInterrupt):
        do(Score(), pairs, part_rows=400, engine=stop_after(3))
    partial = tmp_path / ".out.partial"
    assert len(list(partial.glob("part-*"))) == 3
    with pytest.raises(OutputError, match=r"holds an unfinished job .* --resume"):
        do(Score(), pairs, part_rows=400)
    for change, named in (
        ({"part_rows": 800}, "part_rows"),
        ({"part_rows": 400, "format": "jsonl"}, "format"),
        ({"part_rows": 400, "bundle": str(FIXTURES / "mlp")}, "bundle"),
    ):
        with pytest.raises(OutputError, match=f"is another one: it differs in .*{named}"):
            do(Score(), pairs, resume=True, **change)
    with pytest.raises(OutputError, match="differs in task"):
        do(Score(unknown="null"), pairs, part_rows=400, resume=True)
    (tmp_path / "other").mkdir()
    other = tmp_path / "other" / pairs.name
    pq.write_table(make_pairs(BUNDLE, 12_000, seed=5), other, row_group_size=400)
    with pytest.raises(OutputError, match="differs in inputs"):
        do(Score(), other, part_rows=400, resume=True)
    assert len(list(partial.glob("part-*"))) == 3, "nothing is lost by trying"

    redone: list[int] = []

    def counting(plan: Any, fragments: Any, *others: Any) -> Generator[Outcome]:
        redone.extend(fragment.number for fragment in fragments)
        return run_locally(plan, fragments, *others)

    (partial / "part-00001.parquet").unlink()
    do(Score(), pairs, part_rows=400, resume=True, engine=counting)
    assert redone == [1, *range(3, 30)]
    assert len(read(tmp_path / "out")) == 12_000


@pytest.mark.parametrize("part_rows", [400, 12_000])  # between two fragments, and within one
def test_an_input_that_changes_while_it_is_read(
    part_rows: int, pairs: Path, tmp_path: Path, do: DoJob
) -> None:
    def write(n: int) -> None:
        with pairs.open("r+b") as file:
            file.seek(-1, os.SEEK_END)
            file.write(b"1")

    with pytest.raises(InputError, match="changed while it was read"):
        do(Score(), pairs, part_rows=part_rows, batch_rows=100, on_rows=write)
    assert not (tmp_path / "out").exists()


def test_an_output_is_never_overwritten_unasked_and_swapped_only_when_whole(
    pairs: Path, tmp_path: Path, do: DoJob
) -> None:
    do(Recommend())
    before = contents(tmp_path / "out")
    with pytest.raises(OutputError, match="is already there"):
        do(Score(), pairs)
    with pytest.raises(KeyboardInterrupt):
        do(Score(), pairs, part_rows=400, overwrite=True, engine=stop_after(4))
    assert contents(tmp_path / "out") == before
    do(Score(), pairs, part_rows=400, overwrite=True, resume=True)
    assert len(read(tmp_path / "out")) == 12_000
    assert {path.name for path in tmp_path.iterdir()} == {"pairs.parquet", "out"}

    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "letter.txt").write_text("dear")
    with pytest.raises(OutputError, match=r"holds no _SUCCESS\.json, so it isn't ours"):
        do(Score(), pairs, output=str(tmp_path / "home"), overwrite=True)


def test_a_finished_job_stays_as_it_is(pairs: Path, tmp_path: Path, do: DoJob) -> None:
    first = do(Score(), pairs)
    inode = (tmp_path / "out" / SUCCESS).stat().st_ino
    assert do(Score(), pairs, resume=True) == first
    assert (tmp_path / "out" / SUCCESS).stat().st_ino == inode
    with pytest.raises(OutputError, match="differs in task"):
        do(Score(unknown="null"), pairs, resume=True)


def test_killed_in_its_last_steps_only_the_move_is_left(pairs: Path, tmp_path: Path, do: DoJob) -> None:
    do(Score(), pairs, part_rows=400)
    whole = contents(tmp_path / "out")
    (tmp_path / "out").rename(tmp_path / ".out.partial")
    with pytest.raises(OutputError, match="holds an unfinished job"):
        do(Score(), pairs, part_rows=400)
    do(Score(), pairs, part_rows=400, resume=True, engine=stop_after(0))
    assert contents(tmp_path / "out") == whole


def test_places_that_are_mounted(pairs: Path, tmp_path: Path, do: DoJob) -> None:
    disk = tmp_path / "disk"
    with small_disk(disk, 10_000_000):
        if not disk.is_mount():
            pytest.skip("may not mount a file system")
        with pytest.raises(OutputError, match="is a mount point"):
            do(Score(), pairs, output=str(disk), overwrite=True)
        options = {"output": str(disk / "out"), "part_rows": 4000}
        do(Score(), pairs, **options)
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        summary = do(Score(), pairs, resume=True, **options)  # it stays as it is
        assert summary.rows_out == 12_000


def test_a_finished_output_that_has_lost_a_part_is_not_called_finished(
    pairs: Path, tmp_path: Path, do: DoJob
) -> None:
    do(Score(), pairs, part_rows=400)
    whole = contents(tmp_path / "out")
    (tmp_path / "out" / "part-00003.parquet").unlink()
    with pytest.raises(OutputError, match=r"part-00003\.parquet has gone"):
        do(Score(), pairs, part_rows=400, resume=True)
    do(Score(), pairs, part_rows=400, resume=True, overwrite=True)
    assert contents(tmp_path / "out") == whole


@contextmanager
def small_disk(path: Path, n_bytes: int) -> Iterator[None]:
    """A full disk: a small file system where we may mount one, else a limit on the size of a file."""
    path.mkdir()
    mounted = (
        os.geteuid() == 0
        and not subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={n_bytes}", "tmpfs", str(path)], capture_output=True
        ).returncode
    )
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        if not mounted:
            resource.setrlimit(resource.RLIMIT_FSIZE, (16_384, hard))
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        if mounted:
            subprocess.run(["umount", str(path)], check=True)


@pytest.mark.parametrize(("format", "n_bytes"), [("parquet", 80_000), ("csv", 400_000), ("jsonl", 1_200_000)])
def test_a_full_disk_loses_nothing(format: str, n_bytes: int, pairs: Path, tmp_path: Path, do: DoJob) -> None:
    disk, task = tmp_path / "disk", Recommend(top_k=20, explode=True)
    users = tmp_path / "users.csv"
    users.write_text("user_id\n" + "".join(f"{10 * (1 + n % 30)}\n" for n in range(12_000)))
    options = {"format": format, "part_rows": 300, "output": str(disk / "out")}
    with small_disk(disk, n_bytes):
        with pytest.raises(JobError, match=r"can't be written: (No space left|File too large).* is kept"):
            do(task, users, **options)
        assert not (disk / "out").exists()
        partial = disk / ".out.partial"
        assert not list(partial.glob(".*.tmp"))
        if partial.exists():  # not where a part was already too much
            shutil.copytree(partial, tmp_path / ".whole.partial")
    # On a larger disk it goes on.
    options["output"] = str(tmp_path / "whole")
    do(task, users, resume=True, **options)
    do(task, users, **(options | {"output": str(tmp_path / "unbroken")}))
    assert contents(tmp_path / "whole") == contents(tmp_path / "unbroken")


def test_a_place_that_can_not_be_written(pairs: Path, tmp_path: Path) -> None:
    place = tmp_path / "place"
    place.mkdir()
    arguments = score_command("--input", pairs, "--output", place / "out")
    if os.geteuid() == 0:  # who may write everywhere but on what is mounted so
        mount = f"mount -t tmpfs -o ro tmpfs {place} && exec "
        arguments = ["unshare", "--mount", "sh", "-c", mount + " ".join(arguments)]
    else:
        place.chmod(0o500)
    done = subprocess.run(arguments, capture_output=True, text=True)
    assert done.returncode == 1
    assert "can't be written" in done.stderr
    assert "Traceback" not in done.stderr


def test_what_is_done_counts_by_the_rule_of_the_resumption(tmp_path: Path, do: DoJob) -> None:
    path = tmp_path / "users.csv"
    path.write_text("user_id\n" + "10\nx\n" * 30)
    options = {"part_rows": 20, "resume": True}
    with pytest.raises(KeyboardInterrupt):
        do(Recommend(), path, part_rows=20, on_bad_row="quarantine", engine=stop_after(2))
    with pytest.raises(BadRowError, match="20 rows were quarantined before"):
        do(Recommend(), path, **options)
    with pytest.raises(BadRowError, match="more than 19 rows are bad"):
        do(Recommend(), path, on_bad_row="quarantine", max_bad_rows=19, **options)
    assert do(Recommend(), path, on_bad_row="quarantine", max_bad_rows=30, **options).quarantined == 30


@pytest.mark.slow
def test_the_exit_code_is_the_same_with_a_closed_stdout(tmp_path: Path) -> None:
    (tmp_path / "bad.csv").write_text("user_id,item_id\n10,1001\nx,1001\n")
    arguments = score_command("--input", tmp_path / "bad.csv", "--output", tmp_path / "out")
    for option in ("--json", "--max-bad-rows=2"):
        process = subprocess.Popen(
            [*arguments, "--on-bad-row", "quarantine", "--overwrite", option], stdout=subprocess.PIPE
        )
        assert process.stdout
        process.stdout.close()
        assert process.wait() == 3
    assert subprocess.run([*arguments, "--overwrite"], capture_output=True).returncode == 2
