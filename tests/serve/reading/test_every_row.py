"""Whatever the bytes: rows in = rows read + rows refused + blank lines, at every entrance that reads files.

`pytest -m nightly` tries many more files, and prints how many rows they had.
"""

from __future__ import annotations

import csv
import gzip
import re
import shutil
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from fixture_bundles import FIXTURES
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from serve.batch.job import Job
from serve.batch.recommend import Recommend
from serve.batch.run import run_job
from serve.batch.score import Score
from serve.errors import InputError
from serve.reading.files import open_source

NAMES = ["user_id", "item_id", "rating"]
BUNDLE = FIXTURES / "dot-bias"
SMALL, MANY = 40, 5_000
SMALL_JOBS, MANY_JOBS = 8, 300

CELLS = [b"10", b"20", b"1001", b"1002", b"5", b"0.5", b"007", b"1.0", b"+5", b"4_2", b"0x1F", b"1e3", b"nan"]
BYTES = [
    *CELLS,
    *(
        b"a",
        b"",
        b" ",
        b"\t",
        b",",
        b",",
        b",",
        b";",
        b"\n",
        b"\n",
        b"\n",
        b"\r\n",
        b"\r",
        b'"',
        b'""',
        b"\xff",
    ),
    *(b"\x00", b"\xef\xbb\xbf", b"\xc3\xa9", b'"Unclosed', b'x,"y\nz",w\n', b"10,1001,4\n", b"20\t1002\t3\n"),
]
PIECES = {
    ".csv": BYTES,
    ".tsv": [*BYTES, b"\t", b"\t"],
    ".inter": [*BYTES, b"\t", b"\t"],
    ".jsonl": [
        *(
            b"{",
            b"}",
            b"\n",
            b"\n",
            b'"',
            b":",
            b",",
            b"\xff",
            b"1",
            b'"user_id"',
            b"null",
            b"\r\n",
            b" ",
            b"[",
        ),
        b'{"user_id": 10, "item_id": "1001", "rating": 5.0}\n',
        b'{"item_id": 1001, "item_id": 1}\n',
        b'{"user_id": "\\ud800", "item_id": 1002}\n',
        b'{"user_id": 20, "new": {"a": [1.50]}}\n',
    ],
    ".txt": [*BYTES, b"7:\n", b"10,4,2005-09-06\n", b"10,4\n"],
}
FIRST = {
    ".csv": b"user_id,item_id,rating\n",
    ".tsv": b"user_id\titem_id\trating\n",
    ".inter": b"user_id:token\titem_id:token\trating:float\n",
    ".jsonl": b'{"user_id": 10, "item_id": 1001, "rating": 3}\n',
    ".txt": b"1001:\n",
}


GOOD = {
    ".csv": b'10,1001,4\n20,"1002",5\n',
    ".tsv": b"10\t1001\t4\n20\t1002\t5\n",
    ".inter": b"10\t1001\t4\n20\t1002\t5\n",
    ".jsonl": b'{"user_id": 10, "item_id": 1001, "rating": 5.0}\n',
    ".txt": b"10,4,2005-09-06\n20,5,2005-09-06\n",
}


def contents(ending: str) -> st.SearchStrategy[bytes]:
    """Good rows with bad pieces between them."""
    pieces = st.one_of(st.sampled_from(PIECES[ending]), st.binary(max_size=3))
    between = st.one_of(st.just(GOOD[ending]), st.lists(pieces, max_size=8).map(b"".join))
    return st.lists(between, max_size=8).map(lambda found: FIRST[ending] + b"".join(found))


def n_records(content: bytes, ending: str) -> int:
    """What a file holds besides its heading, blank lines too, counted in the slow, obvious way."""
    lines = content.decode(errors="surrogateescape").split("\n")
    lines = lines if lines[-1] else lines[:-1]
    if ending == ".csv":
        return -1 + sum(1 for _ in csv.reader((line + "\n" for line in lines), skipinitialspace=True))
    if ending == ".txt":
        return sum(not re.fullmatch(r"\s*[0-9]+:\s*", line) for line in lines)
    return len(lines) - (ending != ".jsonl")


def is_unclear(content: bytes, ending: str) -> bool:
    """Whether a refusal of the file as a whole is right: wrong quotes hide where its records end."""
    return ending == ".csv" and (b'"' in content or b"\r" in content)


def check_source(content: bytes, ending: str, folder: Path, counts: Counter[str]) -> None:
    counts["files"] += 1
    packed = len(content) % 2 == 1
    path = folder / (f"r{ending}.gz" if packed else f"r{ending}")
    path.write_bytes(gzip.compress(content) if packed else content)
    try:
        parts = list(open_source(path).read())
    except InputError:
        counts["files refused"] += 1
        assert is_unclear(content, ending)
        return
    counts["rows read"] += (n_read := sum(len(part.table) for part in parts))
    counts["rows refused"] += (n_refused := sum(len(part.refused) for part in parts))
    n_blank = sum(part.n_blank for part in parts)
    assert n_read + n_refused + n_blank == n_records(content, ending)
    n_lines = content.count(b"\n") + (not content.endswith(b"\n"))
    n_within = sum(part.n_within for part in parts)
    if ending == ".csv":
        assert n_read + n_refused + n_blank + n_within == n_lines - 1, "all lines but the heading"
    numbers = [int(n) for part in parts for n in part.numbers]
    numbers += [row.line or 0 for part in parts for row in part.refused]
    assert len(set(numbers)) == len(numbers), "each row has its own line"


def check_job(content: bytes, ending: str, folder: Path, counts: Counter[str]) -> None:
    """A batch job: what it can't use is in the quarantine, and both counts are those of the reader."""
    counts["files"] += 1
    path = folder / f"r{ending}"
    path.write_bytes(content)
    try:
        n_rows = sum(len(part.table) + len(part.refused) for part in open_source(path).read())
    except InputError:
        n_rows = None
    task = Recommend(top_k=1) if counts["files"] % 2 else Score()
    shutil.rmtree(folder / "out", ignore_errors=True)
    job = Job(
        task=task,
        bundle=str(BUNDLE),
        output=str(folder / "out"),
        input=str(path),
        device="cpu",
        on_bad_row="quarantine",
        part_rows=5,
        batch_rows=2,
    )
    try:
        summary = run_job(job)
    except InputError:
        counts["files refused"] += 1
        assert n_rows is None
        assert not (folder / "out").exists()
        return
    counts["rows read"] += summary.rows_out
    counts["rows refused"] += summary.quarantined
    assert summary.rows_in == n_rows == summary.rows_out + summary.quarantined
    written = (folder / "out" / "_quarantine").glob("*.jsonl")
    assert sum(len(part.read_text().splitlines()) for part in written) == summary.quarantined


Check = Callable[[bytes, str, Path, Counter[str]], None]


def run(check: Check, ending: str, folder: Path, n: int) -> Counter[str]:
    counts: Counter[str] = Counter()

    @given(content=contents(ending))
    @settings(max_examples=n, deadline=None, suppress_health_check=list(HealthCheck))
    def each(content: bytes) -> None:
        check(content, ending, folder, counts)

    each()
    return counts


@pytest.mark.parametrize("ending", PIECES)
def test_every_row_of_a_file(ending: str, tmp_path: Path) -> None:
    assert run(check_source, ending, tmp_path, SMALL)["rows read"] > SMALL


@pytest.mark.parametrize("ending", [".csv", ".jsonl"])
def test_every_row_of_a_job(ending: str, tmp_path: Path) -> None:
    counts = run(check_job, ending, tmp_path, SMALL_JOBS)
    assert counts["files"] > counts["files refused"]


@pytest.mark.nightly
@pytest.mark.parametrize("ending", PIECES)
def test_every_row_of_many(ending: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tried = {
        "read": run(check_source, ending, tmp_path, MANY),
        "batch": run(check_job, ending, tmp_path, MANY_JOBS),
    }
    with capsys.disabled():
        for what, counts in tried.items():
            shown = ", ".join(f"{n:,} {name}" for name, n in counts.items())
            sys.stdout.write(f"\n{what} {ending}: {shown}")
