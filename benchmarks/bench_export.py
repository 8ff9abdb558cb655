"""`recsys export` and the first answer of its bundle, by the size of the catalogue, beside what bounds them.

    python benchmarks/bench_export.py [--sizes 10000x2000 100000x20000 1000000x200000] [--factors 64]

Sizes are items x users; four ratings a item, runs with made-up weights (made_up_run.py). "product" is a bare
sgemm of the users that are ranked, at most 10,000, with the item table, 256 at a time. Each command is a
process of its own; memory is its peak.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
from machine import describe_machine
from made_up_run import make_run
from publish import publish

from recsys.evaluation.evaluate import MAX_RANKED_USERS

USERS_AT_ONCE = 256


class Used(NamedTuple):
    seconds: float
    cpu_seconds: float
    mib: float

    def __str__(self) -> str:
        return f"{self.seconds:.1f} | {self.cpu_seconds:.1f} | {self.mib:,.0f}"


def used_by(*arguments: object) -> Used:
    """What a `recsys` command takes. Raises CalledProcessError: it fails."""
    command = [sys.executable, "-m", "recsys", *map(str, arguments)]
    started = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    assert process.stderr
    said = process.stderr.read()
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command, stderr=said)
    return Used(time.perf_counter() - started, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024)


def seconds_of_hashing(folder: Path) -> float:
    started = time.perf_counter()
    for path in folder.iterdir():
        with path.open("rb") as file:
            hashlib.file_digest(file, "sha256")
    return time.perf_counter() - started


def seconds_of_product(n_users: int, n_items: int, n_factors: int) -> float:
    rng = np.random.default_rng(0)
    users, items = (rng.standard_normal((n, n_factors), np.float32) for n in (USERS_AT_ONCE, n_items))
    out = np.empty((USERS_AT_ONCE, n_items), np.float32)
    np.matmul(users, items.T, out=out)
    started = time.perf_counter()
    for _ in range(-(-n_users // USERS_AT_ONCE)):
        np.matmul(users, items.T, out=out)
    return time.perf_counter() - started


def row(n_items: int, n_users: int, n_factors: int) -> str:
    """Measure one size; returns its row of the report."""
    with tempfile.TemporaryDirectory() as temporary:
        run, bundle = Path(temporary) / "run", Path(temporary) / "bundle"
        make_run(run, n_users=n_users, n_items=n_items, n_ratings=4 * n_items, n_factors=n_factors)
        exported = used_by("export", run, "--output", bundle)
        first = used_by("recommend", bundle, "--user-id", 1)
        hashing = seconds_of_hashing(bundle)
    product = seconds_of_product(min(n_users, MAX_RANKED_USERS), n_items, n_factors)
    tables = 4 * (n_factors + 1) * (n_items + n_users) / 2**20
    size = f"{n_items:,} | {n_users:,} | {tables:,.0f}"
    return f"| {size} | {exported} | {product:.1f} | {first} | {hashing:.2f} |"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", nargs="+", default=["10000x2000", "100000x20000", "1000000x200000"])
    parser.add_argument("--factors", type=int, default=64)
    arguments = parser.parse_args()
    sizes = [size.split("x") for size in arguments.sizes]
    rows = [row(int(n_items), int(n_users), arguments.factors) for n_items, n_users in sizes]
    head = (
        "items | users | tables MiB | export s | CPU s | MiB | product s | first answer s | CPU s | MiB "
        "| hashing s"
    )
    publish(
        "export",
        f"# Exporting and opening large catalogues\n\n`python benchmarks/bench_export.py`\n\n"
        f"`dot-bias`, {arguments.factors} factors. Product: the ranked users times the item table; hashing: "
        f"SHA-256 of the bundle's files.\n{describe_machine('torch', 'onnxruntime-gpu', 'numpy')}\n\n"
        f"| {head} |\n{'| --- ' * 11}|\n" + "\n".join(rows) + "\n",
    )


if __name__ == "__main__":
    main()
