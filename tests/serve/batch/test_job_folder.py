"""The folder where a job is assembled: one job at a time, and no other files are touched."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest
from patience import PATIENCE

from serve.batch.job_folder import LOCK, PLAN, SUCCESS, claimed
from serve.batch.recommend import Recommend
from serve.batch.score import Score
from serve.errors import OutputError

from .conftest import DoJob, contents, score_command


def test_a_second_job_for_the_same_output_is_refused(pairs: Path, tmp_path: Path, do: DoJob) -> None:
    do(Score(), pairs, part_rows=4000)
    whole, refused = contents(tmp_path / "out"), []

    def start_another(n: int) -> None:
        if not refused:
            refused.append(n)
            with pytest.raises(OutputError, match="belongs to a job that is running"):
                do(Score(unknown="null"), pairs, part_rows=4000, overwrite=True)

    do(Score(), pairs, part_rows=4000, overwrite=True, on_rows=start_another)
    assert refused
    assert contents(tmp_path / "out") == whole
    assert {path.name for path in tmp_path.iterdir()} == {"pairs.parquet", "out"}


def test_a_worker_keeps_other_jobs_out_after_its_parent_has_died(tmp_path: Path) -> None:
    folder = tmp_path / ".out.partial"
    code = "import sys; from pathlib import Path; from serve.batch.job_folder import share_claim;"
    code += "share_claim(Path(sys.argv[1])); print(flush=True); sys.stdin.read()"
    with claimed(folder):
        (folder / PLAN).touch()
        line = [sys.executable, "-c", code, str(folder)]
        worker = subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert worker.stdout
        worker.stdout.readline()
    with pytest.raises(OutputError, match="belongs to a job that is running"), claimed(folder):
        pass
    worker.communicate(timeout=PATIENCE)
    with claimed(folder):
        pass


def test_a_claim_follows_the_folder_not_its_name(tmp_path: Path) -> None:
    with claimed(tmp_path / ".out.partial"):
        (tmp_path / ".out.partial").rename(tmp_path / "out")
        with claimed(tmp_path / ".out.partial"):
            pass
        with pytest.raises(OutputError), claimed(tmp_path / "out"):
            pass


def test_one_claim_at_a_time_while_the_folder_comes_and_goes(tmp_path: Path) -> None:
    folder, held = tmp_path / ".out.partial", []

    def claim(_: int) -> None:
        with suppress(OutputError), claimed(folder):
            held.append(1)
            assert held == [1]
            assert (folder / LOCK).is_file()
            held.pop()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(claim, range(200)))
    assert not folder.exists()


def test_several_jobs_of_which_one_does_the_work(pairs: Path, tmp_path: Path) -> None:
    arguments = score_command("--resume", "--input", pairs, "--output", tmp_path / "out")
    jobs = [subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE) for _ in range(4)]
    said = [job.communicate()[1].decode() for job in jobs]
    for job, errors in zip(jobs, said, strict=True):
        assert job.returncode == 0 or "belongs to a job that is running" in errors
    assert any(job.returncode == 0 for job in jobs)
    assert {path.name for path in tmp_path.iterdir()} == {"pairs.parquet", "out"}


@pytest.mark.parametrize("is_link", [False, True])
def test_a_folder_of_another_origin_is_left_alone(
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


def test_a_half_removed_output_is_not_resumed(tmp_path: Path, do: DoJob) -> None:
    """A job was killed while it removed the old output: `_SUCCESS.json` goes first, the rest in any order."""
    source = tmp_path / "users.csv"
    source.write_text("user_id\n10\nx\n20\n30\n")
    options = {"part_rows": 2, "on_bad_row": "quarantine"}
    do(Recommend(), source, **options)
    whole = contents(tmp_path / "out")
    for gone in whole.keys() - {SUCCESS}:
        (tmp_path / "out").rename(tmp_path / ".out.partial")
        (tmp_path / ".out.partial" / LOCK).touch()
        (tmp_path / ".out.partial" / SUCCESS).unlink()
        (tmp_path / ".out.partial" / gone).unlink()
        do(Recommend(), source, resume=True, **options)
        assert contents(tmp_path / "out") == whole


def test_a_link_in_an_old_output_is_removed_and_not_followed(pairs: Path, tmp_path: Path, do: DoJob) -> None:
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "data.txt").write_text("precious")
    do(Score(), pairs)
    (tmp_path / "out" / "link").symlink_to(tmp_path / "theirs")
    do(Score(), pairs, overwrite=True)
    assert (tmp_path / "theirs" / "data.txt").read_text() == "precious"
    assert not (tmp_path / ".out.partial").exists()
