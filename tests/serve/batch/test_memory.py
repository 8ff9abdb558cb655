"""Memory is bounded by the batches on their way, not by the input or its row groups."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fixture_bundles import FIXTURES

CODE = """
import re, resource, sys
from functools import partial
from serve.batch.job import Job
from serve.batch.local_engine import run_locally
from serve.batch.run import run_job
from serve.batch.score import Score
bundle, source, output, workers = sys.argv[1:]
run_job(Job(task=Score(), bundle=bundle, input=source, output=output, device="cpu",
            batch_rows=16384, part_rows=1000000, on_bad_row="quarantine"),
        engine=partial(run_locally, workers=int(workers)))
# Not RUSAGE_SELF: that is at first what the process had that started this one.
own = int(re.search(r"VmHWM:\\s+(\\d+) kB", open("/proc/self/status").read()).group(1))
print(max(own, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss))
"""


def peak_kib(source: Path, output: Path, workers: int = 1) -> int:
    """Of the process that takes most."""
    arguments = [sys.executable, "-c", CODE, str(FIXTURES / "dot-bias"), str(source), str(output)]
    arguments.append(str(workers))
    return int(subprocess.run(arguments, capture_output=True, text=True, check=True).stdout)


@pytest.mark.slow
def test_bad_rows_are_not_gathered(tmp_path: Path) -> None:
    def write(n: int) -> Path:
        path = tmp_path / f"{n}.parquet"
        nobody = pa.nulls(n, pa.int64())
        pq.write_table(pa.table({"user_id": nobody, "item_id": nobody}), path, row_group_size=n)
        return path

    few, many = write(20_000), write(400_000)
    added = peak_kib(many, tmp_path / "many") - peak_kib(few, tmp_path / "few")
    # 380,000 of them would be 100 MiB.
    assert added < 32 << 10


@pytest.mark.slow
@pytest.mark.parametrize(
    ("workers", "rows_in_a_group"), [pytest.param(1, 5_000_000, marks=pytest.mark.slow), (2, 1_000_000)]
)
def test_five_times_the_rows_take_no_more_memory(workers: int, rows_in_a_group: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)

    def write(n: int) -> Path:
        path = tmp_path / f"{n}.parquet"
        columns = {"user_id": rng.integers(1, 99, n) * 10, "item_id": rng.integers(1001, 1051, n)}
        columns["weight"] = rng.random(n)  # can't be compressed
        pq.write_table(pa.table(columns), path, row_group_size=rows_in_a_group)
        return path

    # A million rows fill what allocators keep.
    small, large = write(1_000_000), write(5_000_000)
    assert large.stat().st_size > 45 << 20
    added = peak_kib(large, tmp_path / "large", workers) - peak_kib(small, tmp_path / "small", workers)
    # Eight batches of 16,384 rows of 37 bytes are 5 MiB, a row group to be is 8; the input is 120 in memory.
    assert added < 32 << 10
