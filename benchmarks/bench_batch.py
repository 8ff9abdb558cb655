"""Batch jobs beside a bare loop of `session.run` over ready arrays; their memory and cost as the input grows.

    python benchmarks/bench_batch.py [BUNDLE] [--rows 100000,1000000,10000000] [--rounds 3]

The bare loop has the same indices in the same batches, and keeps nothing. A job also reads and writes
Parquet, looks ids up, and says which were known. Both in processes of their own, in turn; the peak is the
process's.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from machine import describe_machine

from serve.recommender import Recommender

RESULTS = Path(__file__).parent / "results" / "batch.md"
PAIRS_AT_ONCE, USERS_AT_ONCE = 1 << 17, 256

BARE = """
import json, resource, sys, time
import numpy as np
from serve.recommender import Recommender
bundle, source, task = sys.argv[1:]
recommender = Recommender.load(bundle, "cpu")
data = np.load(source)
session = recommender._session(task)
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
import json, resource, shutil, sys, time
from serve.batch.job import Job
from serve.batch.recommend import Recommend
from serve.batch.run import run_job
from serve.batch.score import Score
bundle, source, task, output = sys.argv[1:]
started = time.perf_counter()
tasks = {"score": Score(), "recommend": Recommend()}
run_job(Job(task=tasks[task], bundle=bundle, input=source, output=output, device="cpu"))
seconds = time.perf_counter() - started
print(json.dumps({"seconds": seconds, "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}))
shutil.rmtree(output)
"""


def run(code: str, *arguments: object) -> dict[str, float]:
    """What a process of its own prints."""
    done = subprocess.run([sys.executable, "-c", code, *map(str, arguments)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found: dict[str, float] = json.loads(done.stdout)
    return found


def write_input(recommender: Recommender, task: str, n: int, folder: Path) -> tuple[Path, Path]:
    """The same rows as Parquet with ids, and as arrays with indices."""
    rng = np.random.default_rng(0)
    path, arrays = folder / f"{task}-{n}.parquet", folder / f"{task}-{n}.npz"
    users = rng.integers(1, len(recommender.users) + 1, n)
    columns = {"user_id": recommender.users.take(users)}
    indices = {"user_index": users}
    if task == "score":
        items = rng.integers(1, len(recommender.items) + 1, n)
        columns["item_id"], indices["item_index"] = recommender.items.ids.take(items), items
    pq.write_table(pa.table(columns), path)
    np.savez(arrays, step=PAIRS_AT_ONCE if task == "score" else USERS_AT_ONCE, **indices)
    return path, arrays


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("bundle", nargs="?", type=Path, default=Path("artifacts/default"))
    parser.add_argument("--rows", default="100000,1000000,10000000")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    recommender = Recommender.load(arguments.bundle, "cpu")
    sizes = [int(n) for n in arguments.rows.split(",")]
    lines = [
        "# Batch jobs",
        "",
        f"`python benchmarks/bench_batch.py --rows {arguments.rows} --rounds {arguments.rounds}`",
        "",
        f"Bundle: {recommender.manifest.model.kind}, {len(recommender.users):,} users, "
        f"{len(recommender.items):,} items.",
        f"Medians of {arguments.rounds} rounds.",
        describe_machine("numpy", "onnxruntime-gpu", "pyarrow"),
        "A job's time is all of it: checking the bundle, hashing the input, committing the parts.",
        "",
        "| job | rows | seconds | rows/s | us a row | of the bare loop | peak MiB |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for task, counts in (("score", sizes), ("recommend", [n for n in sizes if n <= 1_000_000])):
            for n in counts:
                path, arrays = write_input(recommender, task, n, folder)
                rounds = 1 if n > 10_000_000 else arguments.rounds
                jobs, bare = [], []
                for _ in range(rounds):
                    jobs.append(run(JOB, arguments.bundle, path, task, folder / "out"))
                    bare.append(run(BARE, arguments.bundle, arrays, task)["seconds"])
                seconds = statistics.median(job["seconds"] for job in jobs)
                share = statistics.median(bare) / seconds
                lines.append(
                    f"| {task} | {n:,} | {seconds:.2f} | {n / seconds:,.0f} | {1e6 * seconds / n:.2f} "
                    f"| {share:.0%} | {max(job['peak'] for job in jobs):,.0f} |"
                )
                print(lines[-1], flush=True)
                path.unlink()
                arrays.unlink()
    RESULTS.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
