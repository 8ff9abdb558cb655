"""The folder that a job is made in: one job at a time, and nothing of anybody else's is touched."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from fixture_bundles import FIXTURES
from patience import PATIENCE

from serve.batch import job_folder, run
from serve.batch.job_folder import LOCK, check_ours, claimed
from serve.batch.recommend import Recommend
from serve.batch.score import Score
from serve.errors import OutputError

from .conftest import DoJob, contents, make_pairs

BUNDLE = FIXTURES / "dot-bias"


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    path = tmp_path / "pairs.parquet"
    pq.write_table(make_pairs(BUNDLE, 12_000), path, row_group_size=400)
    return path


def test_two_jobs_never_write_the_same_output(pairs: Path, tmp_path: Path, do: DoJob) -> None:
    with (
        claimed(tmp_path / ".out.partial"),
        pytest.raises(OutputError, match="belongs to a job that is running"),
    ):
        do(Score(), pairs)
    do(Score(), pairs)


def test_no_other_job_begins_while_a_worker_has_a_share(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / ".out.partial"
    code = "import sys; from pathlib import Path; from serve.batch.job_folder import share_claim;"
    code += "share_claim(Path(sys.argv[1])); print(flush=True); sys.stdin.read()"
    with claimed(folder):
        line = [sys.executable, "-c", code, str(folder)]
        worker = subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert worker.stdin
        assert worker.stdout
        worker.stdout.readline()
    with pytest.raises(OutputError, match="belongs to a job that is running"), claimed(folder):
        pass
    monkeypatch.setattr(job_folder, "PATIENCE", PATIENCE)
    threading.Timer(0.2, worker.stdin.close).start()
    with claimed(folder):  # once it has ended
        assert worker.wait(PATIENCE) == 0
    worker.stdout.close()


def test_a_second_job_in_the_last_moment_takes_nothing(
    pairs: Path, tmp_path: Path, do: DoJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    do(Score(), pairs, part_rows=400)
    whole, real, refused = contents(tmp_path / "out"), run.move_into_place, []

    def move(*arguments: Any, **options: Any) -> None:
        monkeypatch.setattr(run, "move_into_place", real)
        with pytest.raises(OutputError, match="belongs to a job that is running"):
            do(Score(unknown="null"), pairs, part_rows=400, overwrite=True)
        refused.append(True)
        real(*arguments, **options)

    monkeypatch.setattr(run, "move_into_place", move)
    do(Score(), pairs, part_rows=400, overwrite=True)
    assert refused
    assert contents(tmp_path / "out") == whole
    assert {path.name for path in tmp_path.iterdir()} == {"pairs.parquet", "out"}


def test_no_job_begins_in_a_folder_that_is_being_removed(
    pairs: Path, tmp_path: Path, do: DoJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    do(Score(), pairs, part_rows=400)
    folder, real, begun = tmp_path / ".out.partial", os.unlink, []

    def unlink(path: Any, **options: Any) -> None:
        real(path, **options)
        left = {found.name for found in folder.iterdir()} - {LOCK}
        with suppress(OutputError):
            if left and Path(path).parent != tmp_path / "out":
                with claimed(folder):
                    begun.append(left)

    monkeypatch.setattr(os, "unlink", unlink)
    monkeypatch.setattr(job_folder, "PATIENCE", 0)
    do(Score(), pairs, part_rows=400, overwrite=True)
    assert not begun
    assert not folder.exists()


def test_a_claim_follows_the_folder_not_its_name(tmp_path: Path) -> None:
    with claimed(tmp_path / ".out.partial"):
        (tmp_path / ".out.partial").rename(tmp_path / "out")
        with claimed(tmp_path / ".out.partial"):
            pass
        with pytest.raises(OutputError), claimed(tmp_path / "out"):
            pass


@pytest.mark.parametrize("is_link", [False, True])
def test_what_is_in_the_way_and_not_ours_is_left_alone(
    is_link: bool, pairs: Path, tmp_path: Path, do: DoJob
) -> None:
    theirs = tmp_path / ("theirs" if is_link else ".out.partial")
    theirs.mkdir()
    (theirs / "data.txt").write_text("precious")
    if is_link:
        (tmp_path / ".out.partial").symlink_to(theirs)
    for overwrite in (False, True):
        with pytest.raises(OutputError, match="was not made by a batch job"):
            do(Score(), pairs, overwrite=overwrite)
    assert (theirs / "data.txt").read_text() == "precious"


def test_a_folder_that_another_job_removes_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / ".out.partial"
    mkdir, removed = Path.mkdir, []

    def make_and_lose(path: Path, *args: Any, **options: Any) -> None:
        mkdir(path, *args, **options)
        if len(removed) < 3:
            path.rmdir()
            removed.append(path)
            if len(removed) == 2:  # before Python could look at what was in its way
                raise FileExistsError(path)

    monkeypatch.setattr(Path, "mkdir", make_and_lose)
    check_ours(folder)
    with claimed(folder):
        assert (folder / LOCK).is_file()
    assert len(removed) == 3


def test_two_jobs_of_which_the_second_finds_all_done(pairs: Path, tmp_path: Path, do: DoJob) -> None:
    arguments = [sys.executable, "-m", "recsys", "score", str(BUNDLE), "--device", "cpu", "--resume"]
    arguments += ["--input", str(pairs), "--output", str(tmp_path / "out")]
    jobs = [subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE) for _ in range(4)]
    said = [job.communicate()[1].decode() for job in jobs]
    for job, errors in zip(jobs, said, strict=True):
        assert job.returncode == 0 or "belongs to a job that is running" in errors
    assert any(job.returncode == 0 for job in jobs)
    assert {path.name for path in tmp_path.iterdir()} == {"pairs.parquet", "out"}


def test_an_output_that_another_job_finishes_just_now(
    pairs: Path, tmp_path: Path, do: DoJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After this one has looked for it, before it has the lock."""
    finished_before, looked = run._finished_before, []

    def too_early(*arguments: Any) -> Any:
        looked.append(finished_before(*arguments))
        return looked[-1] if len(looked) > 1 else None

    summary = do(Score(), pairs)
    monkeypatch.setattr(run, "_finished_before", too_early)
    assert do(Score(), pairs, resume=True) == summary
    assert len(looked) == 2
    assert {path.name for path in tmp_path.iterdir()} == {"pairs.parquet", "out"}


@pytest.mark.parametrize("by", ["kill", "interrupt"])
@pytest.mark.parametrize("last", ["_SUCCESS.json", "_quarantine", "part-00000.parquet"])
def test_what_is_left_of_an_output_that_was_being_removed_is_not_taken_for_one(
    by: str, last: str, tmp_path: Path, do: DoJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After it was swapped out, stopped at each file in turn; the older job, run again, starts anew."""
    source = tmp_path / "users.csv"
    source.write_text("user_id\n10\nx\n20\n30\n")
    options = {"part_rows": 2, "on_bad_row": "quarantine"}
    do(Recommend(), source, output=str(tmp_path / "whole"), **options)
    whole, remove, unlink, iterdir = contents(tmp_path / "whole"), run.remove, os.unlink, Path.iterdir
    for n_removed in range(len(whole) + 2):
        do(Recommend(), source, **options)
        left = n_removed

        def unlink_some(path: Any, **options: Any) -> None:
            nonlocal left
            if not left:
                raise KeyboardInterrupt
            left -= 1
            unlink(path, **options)

        def remove_some(folder: Path) -> None:
            with monkeypatch.context() as patched:
                patched.setattr(os, "unlink", unlink_some)
                # In whatever order the file system lists them.
                ordered = lambda path: sorted(iterdir(path), key=lambda found: found.name == last)  # noqa: E731
                patched.setattr(Path, "iterdir", ordered)
                remove(folder)

        monkeypatch.setattr(run, "remove", remove_some)
        with suppress(KeyboardInterrupt):
            do(Recommend(top_k=3), source, overwrite=True, **options)
        monkeypatch.setattr(run, "remove", remove)
        if by == "kill":  # nothing was tidied up after it, and somebody takes the new one away
            shutil.rmtree(tmp_path / "out")
        do(Recommend(), source, resume=True, overwrite=by == "interrupt", **options)
        assert contents(tmp_path / "out") == whole
        shutil.rmtree(tmp_path / "out")


def test_a_job_that_was_killed_in_its_last_steps_and_has_lost_a_part_starts_anew(
    pairs: Path, tmp_path: Path, do: DoJob
) -> None:
    do(Score(), pairs, part_rows=4000)
    whole = contents(tmp_path / "out")
    (tmp_path / "out").rename(tmp_path / ".out.partial")
    (tmp_path / ".out.partial" / "part-00001.parquet").unlink()
    do(Score(), pairs, part_rows=4000, resume=True)
    assert contents(tmp_path / "out") == whole


def test_a_link_in_an_old_output_leads_nobody_to_remove_what_it_leads_to(
    pairs: Path, tmp_path: Path, do: DoJob
) -> None:
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "data.txt").write_text("precious")
    for _ in range(2):
        do(Score(), pairs, part_rows=4000, overwrite=True)
        (tmp_path / "out" / "link").symlink_to(tmp_path / "theirs")
    do(Score(), pairs, part_rows=4000, overwrite=True)
    assert (tmp_path / "theirs" / "data.txt").read_text() == "precious"
    assert not (tmp_path / ".out.partial").exists()


def test_an_output_never_replaces_what_is_read(pairs: Path, tmp_path: Path, do: DoJob) -> None:
    do(Score(), pairs, part_rows=4000)
    before = contents(tmp_path / "out")
    (tmp_path / "link").symlink_to(tmp_path / "out")
    for source in (tmp_path / "out", tmp_path / "link", f"{tmp_path}/out/part-*.parquet"):
        with pytest.raises(OutputError, match=r"part-00000\.parquet lies in .*out, which would be replaced"):
            do(Recommend(), source, overwrite=True)
    assert contents(tmp_path / "out") == before
    (tmp_path / "out").rename(tmp_path / ".new.partial")  # nor the parts of a job that was killed
    with pytest.raises(OutputError, match=r"lies in .*\.new\.partial"):
        do(Recommend(), tmp_path / ".new.partial", output=str(tmp_path / "new"), overwrite=True)
    assert contents(tmp_path / ".new.partial") == before
