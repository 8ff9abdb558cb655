"""From process start to the first printed recommendation, beside what Python needs to import the libraries.

    python benchmarks/bench_startup.py [BUNDLE] [--rounds 15]

Whole processes, in turn, so that whatever else the machine does meets all alike. Byte code is compiled
beforehand, as pip does it on install. The bound: at most 1.5 times the imports.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import msgspec
from machine import describe_machine
from publish import publish

BOUND = 1.5
LIBRARIES = "numpy, onnxruntime, pyarrow.parquet, click"


def commands(bundle: Path, user_id: str) -> dict[str, list[str]]:
    """What is measured; the first is what the others are compared with."""
    import importlib.util

    recsys = str(Path(sys.executable).with_name("recsys"))
    asked = ["recommend", str(bundle), "--user-id", user_id, "-k", "10"]
    found = {
        f"python -c 'import {LIBRARIES}'": [sys.executable, "-c", f"import {LIBRARIES}"],
        "recsys recommend BUNDLE --user-id ID": [recsys, *asked],
        "recsys recommend BUNDLE --user-id ID --json": [recsys, *asked, "--json"],
        "recsys --help": [recsys, "--help"],
    }
    if importlib.util.find_spec("torch"):
        found["python -c 'import torch'"] = [sys.executable, "-c", "import torch"]
    return found


def seconds(command: list[str], environment: dict[str, str]) -> float:
    start = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=environment)
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("bundle", nargs="?", type=Path, default=Path("artifacts/default"))
    parser.add_argument("--user-id", default="42")
    parser.add_argument("--rounds", type=int, default=15)
    arguments = parser.parse_args()
    measured = commands(arguments.bundle, arguments.user_id)
    times: dict[str, list[float]] = {name: [] for name in measured}
    with tempfile.TemporaryDirectory() as cache:
        environment = {**os.environ, "PYTHONPYCACHEPREFIX": cache}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        for turn in range(arguments.rounds + 2):
            for name, command in measured.items():
                taken = seconds(command, environment)
                if turn >= 2:  # the first two compile and fill the page cache
                    times[name].append(taken)
    base, answer = list(times)[:2]
    # Compared within each round: a slow moment slows both.
    ratio = statistics.median(b / a for a, b in zip(times[base], times[answer], strict=True))
    write_report(arguments.bundle, arguments.rounds, times, ratio)
    if ratio > BOUND:
        sys.exit(f"the first recommendation took {ratio:.2f} times the imports, more than {BOUND}")


def write_report(bundle: Path, rounds: int, times: dict[str, list[float]], ratio: float) -> None:
    manifest = msgspec.json.decode((bundle / "manifest.json").read_bytes())
    model = manifest["model"]
    size = sum(file["bytes"] for file in manifest["files"].values())
    base = statistics.median(next(iter(times.values())))
    rows = []
    for name, taken in times.items():
        median = statistics.median(taken)
        rows.append(f"| `{name}` | {median:.3f} | {min(taken):.3f} | {median / base:.2f} |")
    publish(
        "startup",
        f"""# From process start to the first recommendation

`python benchmarks/bench_startup.py`

Bundle: {model["kind"]}, {model["n_users"]:,} users, {model["n_items"]:,} items, {size / 1e6:.1f} MB;
every byte of it is hashed, and every float is looked at.
{rounds} rounds. {describe_machine("numpy", "onnxruntime-gpu", "onnxruntime", "pyarrow", "click")}

| process | median s | best s | of the imports |
| --- | --- | --- | --- |
"""
        + "\n".join(rows)
        + f"\n\nMedian of the rounds' ratios, first answer to imports: **{ratio:.2f}** (bound: {BOUND}).\n",
    )


if __name__ == "__main__":
    main()
