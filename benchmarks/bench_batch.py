"""Batch jobs beside a bare loop of `session.run` over ready arrays; their memory and cost as the input grows.

    python benchmarks/bench_batch.py [BUNDLE] [--pairs 1e3,1e5,1e6,1e7,1e8] [--users 1e3,1e5,4e5] [--rounds 3]
                                     [--other BUNDLE] [--other-pairs 1e3,1e7] [--other-users 1e3,4e4]

Both in processes of their own, in turn. Inputs are written in stretches, and removed with their outputs.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from machine import describe_machine
from publish import publish

from serve.runtime.batching import ROWS_PER_RUN, pairs_per_run
from serve.runtime.recommender import Recommender
from serve.runtime.session import available_cpus

ROWS_AT_ONCE = 1 << 20
BARE_ROWS = 10_000_000
PARTS_ROWS = 3_000_000
BYTES_A_ROW = 60
"""Of disk, input and output together, with room to spare."""

BARE = """
import json, sys, time
import numpy as np
import onnxruntime
from serve.runtime.session import available_cpus
from serve.runtime.recommender import Recommender
bundle, source, task = sys.argv[1:]
recommender = Recommender.load(bundle, "cpu")
data = np.load(source)
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = available_cpus()
session = onnxruntime.InferenceSession(f"{bundle}/{task}.onnx", options, ["CPUExecutionProvider"])
step = int(data["step"])
columns = {name: data[name] for name in data.files if name != "step"}
n = len(columns["user_index"])
wide = [{name: array[at:at + step] for name, array in columns.items()} for at in range(0, n, step)]
if task == "recommend":
    wide = [feed | {"exclude_item_indices": recommender.seen.padded(feed["user_index"])} for feed in wide]
session.run(None, wide[0])
started = time.perf_counter()
for feed in wide:
    session.run(None, feed)
print(json.dumps({"seconds": time.perf_counter() - started}))
"""

JOB = """
import json, os, resource, shutil, sys, threading, time
from contextlib import suppress
from functools import partial
from pathlib import Path
from serve.batch.job import Job
from serve.batch.local_engine import run_locally
from serve.batch.recommend import Recommend
from serve.batch.run import run_job
from serve.batch.score import Score

bundle, source, task, output = sys.argv[1:]
samples = []

def watch():
    page, me = resource.getpagesize(), os.getpid()
    while True:
        # Of this process and of its workers; what they share is counted for each.
        everyone, resident = [me], 0
        for process in everyone:
            with suppress(OSError):
                everyone += Path(f"/proc/{process}/task/{process}/children").read_text().split()
        for process in everyone:
            with suppress(OSError):
                resident += int(Path(f"/proc/{process}/statm").read_text().split()[1]) * page
        samples.append((time.perf_counter(), resident / 2**20, len(everyone)))
        time.sleep(0.02)

threading.Thread(target=watch, daemon=True).start()
started = time.perf_counter()
tasks = {"score": Score(), "recommend": Recommend()}
run_job(Job(task=tasks[task], bundle=bundle, input=source, output=output, device="cpu"),
        engine=partial(run_locally, workers=None))
seconds = time.perf_counter() - started
tenths = [0.0] * 10
for at, mib, _ in samples:
    tenth = min(9, max(0, int(10 * (at - started) / seconds)))
    tenths[tenth] = max(tenths[tenth], mib)
found = {"seconds": seconds, "tenths": tenths, "peak": max(mib for _, mib, _ in samples)}
print(json.dumps(found | {"processes": max(n for *_, n in samples)}))
shutil.rmtree(output)
"""


PARTS = """
import json, sys, tempfile, time
from pathlib import Path
from serve.batch.part_writers import new_part
from serve.batch.score import Score
from serve.reading.parquet import ParquetSource
from serve.runtime.recommender import Recommender

bundle, path = sys.argv[1:]
source = ParquetSource(Path(path))
recommender = Recommender.load(bundle, "cpu", threads=1, exact=True)
seconds = {}

def timed(name, each, items):
    for again in range(2):
        started = time.perf_counter()
        for item in items() if callable(items) else items:
            each(item)
        seconds[name] = time.perf_counter() - started

def read():
    return source.read(batch_rows=Score.batch_rows)

def look_up(stretch):
    return [ids.lookup(stretch.table.column(ids.name)) for ids in (recommender.users, recommender.items.ids)]

timed("read", len, read)
stretches = list(read())
timed("look up", look_up, stretches)
timed("graph", lambda found: recommender.score_indices(*found), [look_up(stretch) for stretch in stretches])
columns = {"user": "user_id", "item": "item_id"}
tables = [Score().answer(stretch, columns, recommender, map)[0] for stretch in stretches]
with tempfile.TemporaryDirectory() as folder:
    with new_part(Path(folder) / "part", "parquet", tables[0].schema) as write:
        timed("write", write, tables)
print(json.dumps(seconds))
"""


KEEP_MEMORY = {"MALLOC_MMAP_THRESHOLD_": str(1 << 30), "MALLOC_TRIM_THRESHOLD_": str(1 << 30)}
"""A loop that keeps nothing gives its memory back to the system each time; a job, which is busy, does not."""


def run(code: str, *arguments: object) -> dict[str, Any]:
    """What a process of its own prints."""
    environment = os.environ | (KEEP_MEMORY if code is PARTS else {})
    command = [sys.executable, "-c", code, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def write_input(recommender: Recommender, task: str, n: int, folder: Path) -> tuple[Path, Path, int]:
    """Rows as Parquet with ids; their indices, as many as a bare loop is timed on; and how many those are."""
    rng = np.random.default_rng(0)
    path, arrays = folder / f"{task}-{n}.parquet", folder / f"{task}-{n}.npz"
    kept: dict[str, list[np.ndarray]] = {}
    writer = None
    for start in range(0, n, ROWS_AT_ONCE):
        rows = min(ROWS_AT_ONCE, n - start)
        users = rng.integers(1, len(recommender.users) + 1, rows)
        columns, indices = {"user_id": recommender.users.take(users)}, {"user_index": users}
        if task == "score":
            items = rng.integers(1, len(recommender.items) + 1, rows)
            columns["item_id"], indices["item_index"] = recommender.items.ids.take(items), items
        table = pa.table(columns)
        writer = writer or pq.ParquetWriter(path, table.schema)
        writer.write_table(table, row_group_size=ROWS_AT_ONCE)
        if start < BARE_ROWS:
            for column, index in indices.items():
                kept.setdefault(column, []).append(index)
    assert writer is not None
    writer.close()
    whole = {name: np.concatenate(parts)[:BARE_ROWS] for name, parts in kept.items()}
    # What suits the loop, whose threads share each run.
    step = pairs_per_run(available_cpus()) if task == "score" else ROWS_PER_RUN
    held: dict[str, Any] = whole | {"step": np.array(step)}
    np.savez(arrays, **held)
    return path, arrays, min(n, BARE_ROWS)


def rows_of(text: str) -> list[int]:
    return [int(float(n)) for n in text.split(",")]


class Table:
    """The rows of a report, and the curves of memory."""

    def __init__(self, rounds: int) -> None:
        self.rounds = rounds
        self.rows: list[str] = []
        self.curves: list[str] = []
        self.parts: list[str] = []

    def measure_parts(self, bundle: Path, folder: Path) -> None:
        """What the parts of scoring cost by themselves."""
        recommender = Recommender.load(bundle, "cpu")
        path, arrays, _ = write_input(recommender, "score", PARTS_ROWS, folder)
        found = [run(PARTS, bundle, path) for _ in range(self.rounds)]
        path.unlink()
        arrays.unlink()
        costs = [1e9 * statistics.median(each[name] for each in found) / PARTS_ROWS for name in found[0]]
        cells = [recommender.manifest.model.title, *(f"{cost:.1f}" for cost in costs)]
        self.parts.append(f"| {' | '.join(cells)} |")
        print(self.parts[-1], flush=True)

    def measure(self, bundle: Path, task: str, counts: list[int], folder: Path) -> None:
        """Jobs of one task and one bundle, the smallest first."""
        recommender, start = Recommender.load(bundle, "cpu"), 0.0
        model = recommender.manifest.model.title
        for n in counts:
            path, arrays, n_bare = write_input(recommender, task, n, folder)
            jobs, bare = [], []
            for _ in range(self.rounds):
                jobs.append(run(JOB, bundle, path, task, folder / "out"))
                bare.append(run(BARE, bundle, arrays, task)["seconds"] * n / n_bare)
            path.unlink()
            arrays.unlink()
            seconds = statistics.median(job["seconds"] for job in jobs)
            shares = [alone / job["seconds"] for alone, job in zip(bare, jobs, strict=True)]
            cells = [model, task, f"{n:,}", f"{seconds:.2f}", f"{n / seconds:,.0f}"]
            cells.append(f"{statistics.median(shares):.0%}")
            if n == counts[0]:
                start = seconds
                cells += ["", ""]
            else:
                rest = [(alone, job["seconds"] - start) for alone, job in zip(bare, jobs, strict=True)]
                cells.append(f"{1e6 * statistics.median(s for _, s in rest) / n:.3f}")
                cells.append(f"{statistics.median(alone / s for alone, s in rest):.0%}")
            cells.append(f"{max(job['processes'] for job in jobs)}")
            cells.append(f"{max(job['peak'] for job in jobs):,.0f}")
            self.rows.append(f"| {' | '.join(cells)} |")
            print(self.rows[-1], flush=True)
        tenths = " | ".join(f"{mib:,.0f}" for mib in jobs[-1]["tenths"])
        self.curves.append(f"| {model} | {task} | {n:,} | {tenths} |")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("bundle", nargs="?", type=Path, default=Path("artifacts/default"))
    parser.add_argument("--pairs", default="1e3,1e5,1e6,1e7,1e8")
    parser.add_argument("--users", default="1e3,1e5,4e5")
    parser.add_argument("--other", type=Path, help="a second bundle, whose graph does more for a row")
    parser.add_argument("--other-pairs", default="1e3,1e7")
    parser.add_argument("--other-users", default="1e3,4e4")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    table = Table(arguments.rounds)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        needed = BYTES_A_ROW * max(rows_of(arguments.pairs))
        if (free := shutil.disk_usage(folder).free) < needed:
            parser.error(f"{folder} has {free:,} bytes free, and --pairs needs {needed:,}: ask for fewer.")
        for bundle in filter(None, (arguments.bundle, arguments.other)):
            table.measure_parts(bundle, folder)
        table.measure(arguments.bundle, "score", rows_of(arguments.pairs), folder)
        table.measure(arguments.bundle, "recommend", rows_of(arguments.users), folder)
        if arguments.other:
            table.measure(arguments.other, "score", rows_of(arguments.other_pairs), folder)
            table.measure(arguments.other, "recommend", rows_of(arguments.other_users), folder)
    manifest = Recommender.load(arguments.bundle, "cpu").manifest
    publish(
        "batch",
        REPORT.format(
            command=" ".join(sys.argv[1:]),
            model=f"{manifest.model.n_users:,} users, {manifest.model.n_items:,} items",
            rounds=arguments.rounds,
            machine=describe_machine("numpy", "onnxruntime-gpu", "pyarrow"),
            table="\n".join(table.rows),
            n_parts=PARTS_ROWS,
            parts="\n".join(table.parts),
            curves="\n".join(table.curves),
        ),
    )


REPORT = """# Batch jobs

`python benchmarks/bench_batch.py {command}`

{model}. Medians of {rounds} rounds.
{machine}

A job's time is all of it: loading and checking the bundle, hashing the input, looking ids up, scoring,
encoding Parquet, syncing and committing the parts. The smallest job shows what of it is the start: "net"
leaves that out. Memory is that of all processes of a job, seen every 20 ms; what they share is counted for
each. The bare loop calls `session.run` over ready arrays of indices, in runs of a size
that suits it and with ONNX Runtime's own settings; it keeps nothing, and reads and writes nothing.
`recommend` can be quicker than that: it puts users who have seen about as many items into one run, and so
pads less.

| model | job | rows | seconds | rows/s | of the bare loop | net us a row | net, of it | processes | MiB |
| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |
{table}

## What bounds `score`

Each part of a job alone, on one thread, nanoseconds a row of {n_parts:,}. The processors have all of it to
do, and the bare loop the graph only: where a model is a dot product, its few dozen products cost about as
much as writing the row that they are for. In a job the parts take turns, and each finds less in the cache
than alone. Beside them, a job hashes its input and its parts, about 1 ns a byte, and starts its processes.

| model | read Parquet | look ids up | graph | encode and write Parquet |
| --- | --- | --- | --- | --- |
{parts}

## Memory over the time of the largest job

The most resident MiB in each tenth of its time.

| model | job | rows | 1 | 2 | 3 | 4 | 5 | 6 | 7 | 8 | 9 | 10 |
| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |
{curves}
"""


if __name__ == "__main__":
    main()
