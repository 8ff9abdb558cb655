"""How long reading a ratings file of MovieLens 25M's size takes, and how much memory.

    python benchmarks/bench_read_ratings.py [--rows 25000000]

Makes the file in a temporary folder, three times: in order of user and item, as MovieLens has it; shuffled;
and in a zip. Each is read in a process of its own. Beside it, plain pandas reads the same file, without
looking at what it reads.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path

from publish import publish

N_USERS, N_ITEMS = 162_541, 59_047  # as MovieLens 25M

READERS = {
    "recsys": "recsys.data.load: checked, duplicates looked for, ids encoded",
    "pandas": "pandas.read_csv (C engine): parsed only",
    "pandas-encoded": "pandas.read_csv, then factorize and duplicated: about what load does",
}


def make(folder: Path, rows: int) -> None:
    """ratings.csv, shuffled.csv and ratings.zip, all with the same `rows` ratings."""
    import numpy as np
    import pyarrow as pa
    from pyarrow import csv

    rng = np.random.default_rng(0)
    # Distinct pairs: distinct numbers of cells of the user x item table.
    cells = np.unique(rng.integers(0, N_USERS * N_ITEMS, rows + rows // 20))
    cells = np.sort(rng.permutation(cells)[:rows])
    table = pa.table(
        {
            "userId": cells // N_ITEMS + 1,
            "movieId": cells % N_ITEMS + 1,
            "rating": rng.integers(1, 11, len(cells)) / 2,
            "timestamp": rng.integers(789_652_009, 1_574_327_703, len(cells)),
        }
    )
    csv.write_csv(table, folder / "ratings.csv", csv.WriteOptions(quoting_style="none"))
    shuffled = table.take(rng.permutation(len(cells)))
    csv.write_csv(shuffled, folder / "shuffled.csv", csv.WriteOptions(quoting_style="none"))
    with zipfile.ZipFile(folder / "ratings.zip", "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        archive.write(folder / "ratings.csv", "ml/ratings.csv")
        movies = "".join(f"{item},Movie {item} (2000),Drama\n" for item in range(1, N_ITEMS + 1))
        archive.writestr("ml/movies.csv", "movieId,title,genres\n" + movies)


def read(reader: str, path: Path) -> dict[str, float]:
    """Read the file in this process: rows, seconds without the imports, peak resident bytes with them."""
    if reader == "recsys":
        from recsys.data import loading
    else:
        import pandas as pd
    start = time.perf_counter()
    if reader == "recsys":
        n = len(loading.load(str(path)))
    else:
        frame = pd.read_csv(path, engine="c")
        n = len(frame)
        if reader == "pandas-encoded":
            codes = [pd.factorize(frame[name], sort=True) for name in ("userId", "movieId")]
            assert len(codes) == 2
            assert not frame.duplicated(["userId", "movieId"]).any()
    seconds = time.perf_counter() - start
    return {"rows": n, "seconds": seconds, "peak": _peak_bytes()}


def _peak_bytes() -> int:
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _child(*arguments: str) -> str:
    command = [sys.executable, __file__, *arguments]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=25_000_000, help="ratings in the file")
    parser.add_argument("--make", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--read", nargs=2, metavar=("READER", "FILE"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.make:
        make(arguments.make, arguments.rows)
    elif arguments.read:
        print(json.dumps(read(arguments.read[0], Path(arguments.read[1]))))
    else:
        measure(arguments.rows)


def measure(rows: int) -> None:
    """Everything heavy happens in children: a child's peak counts from its parent's size."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _child("--rows", str(rows), "--make", name)
        size = (folder / "ratings.csv").stat().st_size
        lines = []
        for file, reader in (
            ("ratings.csv", "recsys"),
            ("shuffled.csv", "recsys"),
            ("ratings.zip", "recsys"),
            ("ratings.csv", "pandas"),
            ("ratings.csv", "pandas-encoded"),
        ):
            runs = [json.loads(_child("--read", reader, str(folder / file))) for _ in range(3)]
            best = min(runs, key=lambda run: run["seconds"])
            assert best["rows"] == rows
            peak = max(run["peak"] for run in runs)
            lines.append(
                f"| {READERS[reader]} | {file} | {best['seconds']:.1f} | {rows / best['seconds'] / 1e6:.1f} "
                f"| {peak / 2**20:,.0f} | {peak / size:.1f} |"
            )
            print(lines[-1], flush=True)
    write_report(rows, size, lines)


def write_report(rows: int, size: int, lines: list[str]) -> None:
    from importlib.metadata import version

    versions = ", ".join(f"{name} {version(name)}" for name in ("numpy", "pandas", "pyarrow"))
    publish(
        "read_ratings",
        f"""# Reading a large ratings file

`python benchmarks/bench_read_ratings.py --rows {rows}`

{rows:,} synthetic ratings, {N_USERS:,} users, {N_ITEMS:,} items, {size / 2**20:,.0f} MiB of CSV;
the page cache is warm. Python {platform.python_version()}, {versions};
{len(os.sched_getaffinity(0))} CPUs ({platform.machine()}). Best time of three; highest peak of three, which
includes the interpreter and its libraries. The last column is the peak over the size of the CSV.

| reader | file | seconds | million ratings/s | peak MiB | peak / file |
| --- | --- | --- | --- | --- | --- |
"""
        + "\n".join(lines)
        + "\n",
    )


if __name__ == "__main__":
    main()
