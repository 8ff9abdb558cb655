"""Training `dot-bias` beside fastai's `collab_learner`, as the course notes call it, on MovieLens 100K.

    python -m venv .venv-peers && .venv-peers/bin/pip install fastai
    ML100K_ZIP=ml-100k.zip python benchmarks/bench_fastai.py [--rounds 3] [--processor]
                         [--peers .venv-peers/bin/python]

50 factors, y-range 0 to 5.5, weight decay 0.1, 5 epochs of one-cycle to 5e-3, random 80/20. Both take turns,
each in a process of its own; fastai has one thread and all threads in turn, and the quicker is compared.
With --processor, for a busy machine, both have one thread, and seconds of the processor are counted. An epoch
is training and measuring the held-out part; the whole is everything after the imports, from the zip file to
the trained model (here, also to the run's folder).
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

from machine import describe_machine
from publish import publish

BATCHES = (64, 512)
N_TRAINED = 80_000
COLUMNS = (
    "batch",
    "an epoch, here",
    "fastai",
    "ratio",
    "ratings/s, here",
    "the whole, here",
    "fastai",
    "ratio",
    "RMSE, here",
    "fastai",
)

FASTAI = """
import io, json, sys, time, zipfile
import pandas as pd
from fastai.callback.core import Callback
from fastai.collab import CollabDataLoaders, collab_learner
import fastai

path, batch_size = sys.argv[1], int(sys.argv[2])
time.perf_counter = getattr(time, sys.argv[3])
started = time.perf_counter()
with zipfile.ZipFile(path) as zipped:
    names = {name.rpartition("/")[2]: name for name in zipped.namelist()}
    def table(name, columns, **options):
        data = io.BytesIO(zipped.read(names[name]))
        return pd.read_csv(data, header=None, names=columns, encoding="latin-1", **options)
    ratings = table("u.data", ["user", "movie", "rating", "timestamp"], sep="\\t")
    movies = table("u.item", ["movie", "title"], sep="|", usecols=(0, 1))
ratings = ratings.merge(movies)
loaders = CollabDataLoaders.from_df(ratings, item_name="title", bs=batch_size)
epochs = []

class Clock(Callback):
    def before_epoch(self): self.began = time.perf_counter()
    def after_epoch(self): epochs.append(time.perf_counter() - self.began)

learner = collab_learner(loaders, n_factors=50, y_range=(0, 5.5), cbs=[Clock()])
with learner.no_bar(), learner.no_logging():
    learner.fit_one_cycle(5, 5e-3, wd=0.1)
whole = time.perf_counter() - started
print(json.dumps({"epoch": sorted(epochs)[2], "whole": whole, "rmse": learner.validate()[0] ** 0.5,
                  "version": fastai.__version__}))
"""

OURS = """
import contextlib, io, json, sys, tempfile, time
from pathlib import Path
import recsys.commands.train, recsys.data.loading, recsys.training.progress, recsys.training.train
import pandas, pyarrow.csv, pyarrow.pandas_compat, pyarrow.parquet, torch._dynamo
from recsys.cli import cli
from recsys.training.checkpoint import load_run

path, batch_size, clock = sys.argv[1:]
time.perf_counter = getattr(time, clock)
folder = Path(tempfile.mkdtemp())
line = ["train", "--data", "ml-100k", "--from-file", path, "--model", "dot-bias", "--factors", "50",
        "--batch-size", batch_size, "--epochs", "5", "--learning-rate", "5e-3", "--weight-decay", "0.1",
        "--y-range", "0", "5.5", "--split", "random", "--valid-fraction", "0.2", "--device", "cpu",
        "--output", str(folder / "run")]
started = time.perf_counter()
with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
    cli.main(line, standalone_mode=False)
whole = time.perf_counter() - started
info = load_run(folder / "run").info
epochs = sorted(epoch.seconds for epoch in info.part.history)
print(json.dumps({"epoch": epochs[2], "whole": whole, "rmse": info.metrics["rmse"]}))
"""


def run(python: str, script: str, *arguments: object, threads: int | None = None) -> dict[str, float]:
    """What a script measured. Raises CalledProcessError: it fails."""
    environment = os.environ | ({"OMP_NUM_THREADS": str(threads)} if threads else {})
    command = [python, "-c", script, *map(str, arguments)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=environment)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def spread(values: list[float], digits: int) -> str:
    """Median, and lowest and highest in brackets."""
    low, middle, high = min(values), statistics.median(values), max(values)
    return f"{middle:.{digits}f} ({low:.{digits}f}-{high:.{digits}f})"


def main() -> int:
    """Measure, print and write the report."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--peers", default=".venv-peers/bin/python", help="a Python that has fastai")
    parser.add_argument("--processor", action="store_true", help="count seconds of the processor")
    options = parser.parse_args()
    if not Path(options.peers).exists() or "ML100K_ZIP" not in os.environ:
        print("nothing measured: --peers or ML100K_ZIP does not exist")
        return 0
    processor, load = " --processor" * options.processor, os.getloadavg()[0]
    threads: tuple[int | None, ...] = (1,) if options.processor else (1, None)
    zip_file, rows, fastai_version = os.environ["ML100K_ZIP"], [], ""
    for batch_size in BATCHES:
        ours, theirs = [], []
        for _ in range(options.rounds):
            case = (zip_file, batch_size, "process_time" if options.processor else "perf_counter")
            ours.append(run(sys.executable, OURS, *case, threads=1 if options.processor else None))
            both = [run(options.peers, FASTAI, *case, threads=n) for n in threads]
            theirs.append(min(both, key=lambda one: one["whole"]))
        fastai_version = str(theirs[0]["version"])
        cells = [str(batch_size)]
        for name in ("epoch", "whole"):
            ratios = [b[name] / a[name] for a, b in zip(ours, theirs, strict=True)]
            cells += [spread([one[name] for one in some], 2) for some in (ours, theirs)]
            cells.append(spread(ratios, 1))
        cells.insert(4, f"{N_TRAINED / statistics.median(one['epoch'] for one in ours):,.0f}")
        cells += [f"{statistics.median(one['rmse'] for one in some):.4f}" for some in (ours, theirs)]
        rows.append(f"| {' | '.join(cells)} |")
        print(rows[-1], flush=True)
    intro = (__doc__ or "").partition("\n\n")[2].partition("\n\n")[2]
    lines = [
        "# Training beside fastai",
        "",
        f"`python benchmarks/bench_fastai.py --rounds {options.rounds}{processor}`",
        "",
        intro.strip(),
        "",
        f"fastai {fastai_version}. {describe_machine('torch')} Medians of {options.rounds} rounds, s. "
        f"Load average at the start: {load:.0f}.",
        "",
        f"| {' | '.join(COLUMNS)} |",
        f"|{len(COLUMNS) * ' --- |'}",
        *rows,
    ]
    publish("fastai", "\n".join(lines))
    return 0


if __name__ == "__main__":
    sys.exit(main())
