"""What `export --precision` saves and costs: bytes, RMSE, nDCG@10, lists, time and memory.

    python benchmarks/bench_compression.py [--run ml-latest-small=RUN --run ml-100k=RUN] [--rounds 21]

Exports the default preset's run of MovieLens latest-small (embedded) and MovieLens 100K at each precision; a
run that is not given is trained. The environment variable ML100K_ZIP names the zip of MovieLens 100K. Then
random tables of 64 factors: 100,000 items and as many users in `recommend.onnx`.
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

import numpy as np
import onnx_ir as ir
from machine import describe_machine
from publish import publish

from export.graphs.packed_tables import with_packed_tables
from export.graphs.recommend import recommend_graph
from export.model.dot import DotArrays
from export.model.packed_table import PackedTable, pack
from export.model.ridge import moment
from export.verify.compression import table_bytes
from export.write.bundle import export_run
from recsys.data import load
from recsys.training.settings import new_settings
from recsys.training.train import Machine, train
from serve.bundle.manifest import Manifest
from serve.bundle.packing import FLAGS, Precision
from serve.runtime.session import open_session, run

DATA_SETS = ("ml-latest-small", "ml-100k")
N_ROWS, FACTORS, TOP_K = 100_000, 64, 100
BATCHES = (1, 64)
QUALITY = (
    *("data", "precision", "tables, bytes", "of fp32"),
    *("RMSE", "change", "nDCG@10", "change", "overlap"),
)
TIMES = ("precision", "file, MB", "time to open", "1 user", "64 users", "resident, MiB", "peak, MiB")
OPEN = """
import re, sys
from pathlib import Path
import numpy as np
import onnxruntime
from serve.runtime.session import open_session, run
def memory(what):
    return int(re.search(what + r":\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1])
before = memory("VmRSS")
session = open_session(Path(sys.argv[1]), "cpu")
feeds = {"user_index": np.array([1]), "exclude_item_indices": np.zeros((1, 1), np.int64)}
run(session, feeds)
print(memory("VmRSS"), memory("VmHWM"), before)
"""


def run_of(name: str, given: dict[str, Path], folder: Path) -> Path | None:
    """The run of a data set; None: its zip is not there."""
    if name in given:
        return given[name]
    if name == "ml-100k" and "ML100K_ZIP" not in os.environ:
        print("ML100K_ZIP does not name MovieLens 100K's zip: it is left out")
        return None
    data = load(name, from_file=Path(os.environ["ML100K_ZIP"]) if name == "ml-100k" else None)
    train(data, new_settings(None, {}), folder / name, machine=Machine("cpu"))
    return folder / name


def quality_rows(name: str, path: Path, folder: Path) -> list[str]:
    """A row for each precision: bytes and quality."""
    rows = []
    for flag in FLAGS:
        manifest = export_run(path, folder / f"{name}-{flag}", precision=flag)
        rows.append(f"| {name} | {flag} | {_quality(manifest)} |")
        print(rows[-1], flush=True)
    return rows


def _quality(manifest: Manifest) -> str:
    found = manifest.parity.compression
    n_bytes, n_float32 = table_bytes(manifest.tables)
    cells = [f"{n_bytes:,}", f"{n_bytes / n_float32:.1%}"]
    rmse, ndcg = manifest.metrics["rmse"], manifest.metrics["ndcg_at_k"]
    if found is None:
        return " | ".join([*cells, f"{rmse:.5f}", "", f"{ndcg:.4f}", "", ""])
    assert found.rmse is not None
    assert found.float32_rmse is not None
    assert found.ndcg is not None
    assert found.float32_ndcg is not None
    changes = [f"{found.rmse - found.float32_rmse:+.5f}", f"{found.ndcg / found.float32_ndcg - 1:+.2%}"]
    return " | ".join(
        [*cells, f"{rmse:.5f}", changes[0], f"{ndcg:.4f}", changes[1], f"{found.list_overlap:.1%}"]
    )


def made_up(folder: Path) -> dict[str, Path]:
    """`recommend.onnx` of random tables at each precision, and the seconds that packing took."""
    rng = np.random.default_rng(0)
    tables = {
        name: rng.standard_normal((N_ROWS + 1, FACTORS), np.float32)
        for name in ("user_factors", "item_factors")
    }
    moments = moment(tables["item_factors"][1:])
    files = {}
    for flag, precision in FLAGS.items():
        packed = {} if precision == "float32" else _packed(tables, precision, moments)
        numbers = {name: packed[name].numbers if packed else table for name, table in tables.items()}
        arrays = DotArrays(numbers["user_factors"], numbers["item_factors"], None, None, None)
        files[flag] = folder / f"{flag}.onnx"
        ir.save(with_packed_tables(recommend_graph(arrays, TOP_K), packed), files[flag])
    return files


def _packed(
    tables: dict[str, np.ndarray], precision: Precision, moments: np.ndarray
) -> dict[str, PackedTable]:
    start = time.perf_counter()
    packed = {name: pack(table, precision, moments) for name, table in tables.items()}
    print(
        f"packing {len(tables)} x {N_ROWS:,} x {FACTORS} as {precision}: {time.perf_counter() - start:.1f} s"
    )
    return packed


def time_rows(files: dict[str, Path], rounds: int) -> list[str]:
    """A row for each precision; all take turns. Times are medians of ratios to fp32, round by round."""
    sessions = {flag: open_session(path, "cpu") for flag, path in files.items()}
    taken: dict[tuple[str, str], list[float]] = {}
    rng = np.random.default_rng(1)
    for turn in range(rounds + 1):
        for flag, session in sessions.items():
            for n in BATCHES:
                feeds = {
                    "user_index": rng.integers(1, N_ROWS, n),
                    "exclude_item_indices": rng.integers(1, N_ROWS, (n, 20)),
                }
                start = time.perf_counter()
                run(session, feeds)
                if turn:
                    taken.setdefault((flag, f"{n}"), []).append(time.perf_counter() - start)
            if turn % 4 == 1:
                start = time.perf_counter()
                open_session(files[flag], "cpu")
                taken.setdefault((flag, "open"), []).append(time.perf_counter() - start)
    rows = []
    for flag, path in files.items():
        ratios = [
            statistics.median(a / b for a, b in zip(taken[flag, what], taken["fp32", what], strict=True))
            for what in ("open", *map(str, BATCHES))
        ]
        told = subprocess.run([sys.executable, "-c", OPEN, path], capture_output=True, text=True, check=True)
        now, peak, before = (int(number) / 1024 for number in told.stdout.split())
        cells = [f"{path.stat().st_size / 1e6:.1f}", *(f"{ratio:.2f}" for ratio in ratios)]
        rows.append(f"| {flag} | {' | '.join(cells)} | {now - before:.0f} | {peak - before:.0f} |")
        print(rows[-1], flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--run", action="append", default=[], metavar="DATA=RUN")
    parser.add_argument("--rounds", type=int, default=21)
    arguments = parser.parse_args()
    given = {name: Path(path) for name, path in (one.split("=", 1) for one in arguments.run)}
    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for name in DATA_SETS:
            if (path := run_of(name, given, folder)) is not None:
                rows += quality_rows(name, path, folder)
        times = time_rows(made_up(folder), arguments.rounds)
    write(rows, times, arguments.rounds)


def write(rows: list[str], times: list[str], rounds: int) -> None:
    text = [
        "# Packed tables",
        "",
        "`ML100K_ZIP=ml-100k.zip python benchmarks/bench_compression.py`",
        "",
        describe_machine("numpy", "torch", "onnxruntime-gpu"),
        "",
        "The default preset, a random fifth of the ratings held out. Changes and overlap (items of the ten "
        "best that both list) are those to fp32.",
        "",
        f"| {' | '.join(QUALITY)} |",
        "| --- " * len(QUALITY) + "|",
        *rows,
        "",
        f"`recommend.onnx` of {N_ROWS:,} users and {N_ROWS:,} items x {FACTORS}, random, in ONNX Runtime: "
        f"medians of {rounds} rounds as ratios to fp32 (of every fourth round, to open it); memory "
        "after one answer and at the peak, beyond what the process had.",
        "",
        f"| {' | '.join(TIMES)} |",
        "| --- " * len(TIMES) + "|",
        *times,
    ]
    publish("compression", "\n".join(text))


if __name__ == "__main__":
    main()
