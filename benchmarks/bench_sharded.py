"""Memory of each process of a training: one, two that hold everything, two with sharded tables.

    python benchmarks/bench_sharded.py [--users 600000 --items 400000 --ratings 4000000 --epochs 2 --seeds 2]

Made-up ratings in a Parquet file, `dot-bias`, steps of 8,192, on the CPU, each process on one thread. Memory
is resident, over what the process had with torch and this project loaded.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from machine import describe_machine
from made_up_run import interactions
from publish import publish

from recsys.data import load
from recsys.training.distributed import is_launched
from recsys.training.settings import new_settings
from recsys.training.train import Machine, Reporter, train

BATCH = 8_192
LAUNCHERS = {
    1: [sys.executable],
    2: [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"],
}
CASES = [(1, False), (2, False), (2, True)]
"""Processes, and whether the tables are sharded."""


def resident() -> int:
    """Bytes of memory that this process has for itself: pages of files that it mapped left out."""
    pages = [int(number) for number in Path("/proc/self/statm").read_text().split()]
    return (pages[1] - pages[2]) * os.sysconf("SC_PAGESIZE")


def measure(ratings: Path, output: Path, options: dict[str, Any], *, sharded: bool) -> None:
    """Train as one rank; leaves its memory over time, and rank 0 the run, beside `output`."""
    torch.nn.Linear(8, 1)(torch.ones(8)).backward()  # torch takes memory when it first computes
    before, samples = resident(), []
    begun = 0.0
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(0.01):
            samples.append((time.time(), resident() - before))

    def on_part(*_: object) -> None:
        nonlocal begun
        begun = time.time()

    thread = threading.Thread(target=watch)
    thread.start()
    settings = new_settings("dot-bias", options | {"batch_size": BATCH, "sparse_updates": "on"})
    data = (lambda: load(str(ratings))) if sharded else load(str(ratings))
    machine = Machine("cpu", "off", shard_tables=sharded)
    run = train(data, settings, output, machine=machine, reporter=Reporter(on_part=on_part))
    ended.set()
    thread.join()
    rank = os.environ.get("RANK", "0") if is_launched() else "0"
    history = run.info.part.history
    found = {
        "samples": samples,
        "begun": begun,
        "seconds": [epoch.seconds for epoch in history],
        "rmse": history[-1].metrics["valid_rmse"],
    }
    output.with_name(f"rank-{rank}.json").write_text(json.dumps(found))


def one_run(ratings: Path, options: dict[str, Any], processes: int, *, sharded: bool) -> list[dict[str, Any]]:
    """What each rank of a training found, with its peaks before and while it trained."""
    with tempfile.TemporaryDirectory() as folder:
        asked = json.dumps([str(ratings), folder, options, sharded])
        command = [*LAUNCHERS[processes], __file__, "--rank", asked]
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE)
        ranks = [json.loads((Path(folder) / f"rank-{rank}.json").read_text()) for rank in range(processes)]
    begun = ranks[0]["begun"]
    for rank in ranks:
        rank["reading"] = max((size for at, size in rank["samples"] if at < begun), default=0)
        rank["training"] = max(size for at, size in rank["samples"] if at >= begun)
    return ranks


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name, default in (("users", 600_000), ("items", 400_000), ("ratings", 4_000_000), ("factors", 64)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--rank", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.rank:
        ratings, folder, options, sharded = json.loads(arguments.rank)
        measure(Path(ratings), Path(folder) / "run", options, sharded=sharded)
        return
    found: dict[tuple[int, bool], list[list[dict[str, Any]]]] = {case: [] for case in CASES}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "ratings.parquet"
        data = interactions(arguments.users, arguments.items, arguments.ratings)
        n = len(data)
        table = {"user_id": data.user_index, "item_id": data.item_index, "rating": data.ratings}
        pq.write_table(pa.table(table), path)
        rows = len(set(data.user_index.tolist())) + len(set(data.item_index.tolist()))
        del data, table
        for seed in range(1, 1 + arguments.seeds):
            for case in CASES:
                options = {"epochs": arguments.epochs, "factors": arguments.factors, "seed": seed}
                found[case].append(one_run(path, options, case[0], sharded=case[1]))
                print(seed, case, [rank["training"] for rank in found[case][-1]], flush=True)
    n_bytes = 3 * 4 * rows * (1 + arguments.factors)
    given = " ".join(f"--{k} {v}" for k, v in vars(arguments).items() if k != "rank")
    lines = [
        "# Memory of each process of a training",
        "",
        f"`python benchmarks/bench_sharded.py {given}`",
        "",
        f"`dot-bias`, {rows:,} rows of users and items that are rated, {arguments.factors} factors, {n:,} "
        f"ratings in a Parquet file, steps of {BATCH:,}, sparse updates, one thread a process, Gloo. Weights "
        f"and moments are {n_bytes / 1e6:,.0f} MB. Medians of {arguments.seeds} runs; MB resident over the "
        "process with the libraries loaded, files that it mapped left out: the peak while ratings are read "
        "and prepared, and from the first step on.",
        "",
        describe_machine("torch", "pyarrow", "numpy"),
        "",
        "| processes | tables | rank | reading, MB | training, MB | of one process | s an epoch | RMSEs |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    alone = statistics.median(run[0]["training"] for run in found[CASES[0]])
    for (processes, sharded), runs in found.items():
        for rank in range(processes):
            reading, training = (
                statistics.median(run[rank][what] for run in runs) for what in ("reading", "training")
            )
            seconds = statistics.median(s for run in runs for s in run[0]["seconds"])
            errors = " / ".join(f"{run[0]['rmse']:.4f}" for run in runs)
            lines.append(
                f"| {processes} | {'sharded' if sharded else 'whole'} | {rank} | {reading / 1e6:,.0f} "
                f"| {training / 1e6:,.0f} | {training / alone:.2f} | {seconds:.1f} | {errors} |"
            )
    publish("sharded", "\n".join(lines))


if __name__ == "__main__":
    main()
