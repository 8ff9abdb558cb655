"""Peak memory of training, beside the forecast that `recsys train` makes before it begins.

    python benchmarks/bench_memory.py [--only dot-bias ials ...]

Each part is trained on made-up ratings in a process of its own; its memory is the peak over what the process
had before, with data and torch loaded.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from machine import describe_machine
from made_up_run import interactions
from publish import publish

EPOCH: dict[str, Any] = {"epochs": 1, "batch_size": 65_536}
CASES: list[tuple[str, int, int, int, dict[str, Any]]] = [
    ("dot-bias", 10_000, 10_000, 4_000_000, EPOCH | {"factors": 64, "sparse_updates": "off"}),
    ("dot-bias", 600_000, 400_000, 500_000, EPOCH | {"factors": 64, "sparse_updates": "off"}),
    ("dot-bias", 600_000, 400_000, 500_000, EPOCH | {"factors": 64, "sparse_updates": "on"}),
    ("mlp", 300_000, 200_000, 500_000, EPOCH | {"sparse_updates": "off"}),
    ("ials", 10_000, 10_000, 4_000_000, {"iterations": 1}),
    ("ials", 600_000, 400_000, 1_000_000, {"iterations": 1}),
    ("ease", 20_000, 4_000, 500_000, {}),
    ("ease", 20_000, 10_000, 500_000, {}),
    ("ease", 200_000, 60_000, 500_000, {}),
    ("bayes", 10_000, 10_000, 500_000, {"iterations": 30}),
    ("bayes", 100_000, 50_000, 500_000, {"iterations": 30}),
]
"""Kind, users, items, ratings, settings."""


def resident() -> int:
    """Bytes of memory that this process has."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def measure(kind: str, n_users: int, n_items: int, n_ratings: int, options: dict[str, Any]) -> dict[str, Any]:
    """Train here; returns the peak and the forecast, in bytes."""
    from recsys.training.needed_memory import needed_bytes
    from recsys.training.settings import new_settings
    from recsys.training.train import Machine, train

    data = interactions(n_users, n_items, n_ratings)
    before, peak = resident(), 0
    ended = threading.Event()

    def watch() -> None:
        nonlocal peak
        while not ended.wait(0.01):
            peak = max(peak, resident())

    thread = threading.Thread(target=watch)
    thread.start()
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        run = train(data, new_settings(kind, options), Path(folder) / "run", machine=Machine("cpu", "off"))
    ended.set()
    thread.join()
    forecast = needed_bytes(run.info.part, data, len(data) - run.info.data.n_held_out)
    return {"peak": peak - before, "forecast": forecast, "seconds": time.perf_counter() - started}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", help="kinds")
    parser.add_argument("--case", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.case is not None:
        print(json.dumps(measure(*CASES[arguments.case])))
        return
    lines = []
    for number, (kind, n_users, n_items, n_ratings, options) in enumerate(CASES):
        if arguments.only and kind not in arguments.only:
            continue
        command = [sys.executable, __file__, "--case", str(number)]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        found = json.loads(done.stdout.splitlines()[-1])
        said = ", ".join(f"{name} {value}" for name, value in options.items() if name != "batch_size")
        lines.append(
            f"| {kind} | {said} | {n_users:,} | {n_items:,} | {n_ratings:,} | {found['peak'] / 1e6:,.0f} "
            f"| {found['forecast'] / 1e6:,.0f} | {found['forecast'] / found['peak']:.2f} |"
        )
        print(lines[-1], flush=True)
    if arguments.only:
        return
    publish(
        "memory",
        f"# Memory of training\n\n`python benchmarks/bench_memory.py`\n\nMB over what the process had before."
        f"\n{describe_machine('torch', 'numpy')}\n\n"
        "| kind | settings | users | items | ratings | peak | forecast | ratio |\n"
        "| --- | --- | --- | --- | --- | --- | --- | --- |\n" + "\n".join(lines) + "\n",
    )


if __name__ == "__main__":
    main()
