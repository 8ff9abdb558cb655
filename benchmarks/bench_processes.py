"""One process and two under torchrun, with the same step size: what it costs, and whether they agree.

    python benchmarks/bench_processes.py [--seeds 3]

Both train on the CPU, each process on one thread.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from publish import publish

from recsys.training.run_info import Iteration, read_info

CASES = [("dot-bias", 256, 50), ("dot-bias", 4096, 50), ("dot-bias", 4096, 500), ("mlp", 4096, 100)]
LAUNCHERS = {
    "one": [sys.executable],
    "two": [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"],
}


def measure(launcher: list[str], kind: str, batch_size: int, factors: int, seed: int) -> list[Iteration]:
    """How the epochs of a run went."""
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "run"
        options = ["--model", kind, "--batch-size", batch_size, "--factors", factors, "--seed", seed]
        command = ["-m", "recsys", "train", "--device", "cpu", "--output", output, *options]
        subprocess.run(
            [*launcher, *map(str, command)],
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            capture_output=True,
            check=True,
        )
        return read_info(output).part.history


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    lines = [
        "# Training by one process and by two",
        "",
        f"`python benchmarks/bench_processes.py --seeds {arguments.seeds}`",
        "",
        f"MovieLens latest-small, 5 epochs, on the CPU ({os.cpu_count()} cores), Gloo, one thread a process. "
        "Difference: the largest between the two final RMSEs of a seed. Spread: between the seeds, by one "
        "process. Times are medians over all epochs.",
        "",
        "| model | batch | factors | RMSE, one | two | difference | spread | s an epoch, one | two | ratio |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for kind, batch_size, factors in CASES:
        runs: dict[str, list[list[Iteration]]] = {name: [] for name in LAUNCHERS}
        for seed in range(1, 1 + arguments.seeds):
            for name, launcher in LAUNCHERS.items():
                runs[name].append(measure(launcher, kind, batch_size, factors, seed))
        one, two = (
            [history[-1].metrics["valid_rmse"] for history in histories] for histories in runs.values()
        )
        difference = max(abs(a - b) for a, b in zip(one, two, strict=True))
        seconds = [
            statistics.median(epoch.seconds for history in histories for epoch in history)
            for histories in runs.values()
        ]
        lines.append(
            f"| {kind} | {batch_size} | {factors} | {statistics.median(one):.4f} "
            f"| {statistics.median(two):.4f} | {difference:.4f} | {max(one) - min(one):.4f} "
            f"| {seconds[0]:.2f} | {seconds[1]:.2f} | {seconds[1] / seconds[0]:.1f} |"
        )
        print(lines[-1], flush=True)
    publish("processes", "\n".join(lines))


if __name__ == "__main__":
    main()
