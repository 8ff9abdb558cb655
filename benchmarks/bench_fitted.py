"""What the fitted kinds cost where data is large: EASE by its items, iALS by its ratings beside `implicit`.

    python benchmarks/bench_fitted.py [--only ease|ials] [--ratings 1e7] [--rounds 3]

`implicit` is installed by hand (`pip install implicit`). The ratings are made up, with a long tail:
popularity and activity follow power laws. Every fit has a process of its own; iALS and implicit take turns.

Both minimise the same objective: with equal weights of 1, and scores divided by 1 / (1 + a), that of iALS is
implicit's with the confidence (1 + a) / a and the regularization r (1 + a) / a. iALS runs its default
iterations; implicit stops after the first iteration that is as low, or after 30. Times include the conversion
of the ratings from three columns, and leave out reading and measuring the objective.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from machine import describe_machine
from publish import publish

from recsys.data.interactions import Interactions
from recsys.models import ease, ials

FACTORS = 64
CONFIG = ials.IalsConfig(n_factors=FACTORS, rating_weight=0.0)
USED = ("seconds", "cpu_seconds", "mib")
EASE_USERS = 50_000
EASE_SIZES = {20_000: 1_000_000, 100_000: 1_000_000}
"""Items -> ratings."""
ALS_USERS, ALS_ITEMS = 150_000, 50_000
TAIL = 0.7
"""Exponent of the power laws."""


COLUMNS = ("user_index", "item_index", "ratings")


def make(folder: Path, n_users: int, n_items: int, n_ratings: int) -> None:
    """Ratings of 1 to 5 without meaning, a file for each column."""
    rng = np.random.default_rng(0)
    shares = [rng.permutation(np.arange(1.0, n + 1) ** -TAIL) for n in (n_users, n_items)]
    pairs = np.empty(0, np.int64)
    while len(pairs) < n_ratings:
        drawn = [
            np.searchsorted(np.cumsum(share) / share.sum(), rng.random(n_ratings)).clip(max=len(share) - 1)
            for share in shares
        ]
        pairs = np.unique(np.append(pairs, drawn[0] * n_items + drawn[1]))
    pairs = np.sort(rng.permutation(pairs)[:n_ratings])
    columns = (1 + pairs // n_items, 1 + pairs % n_items, rng.integers(1, 6, n_ratings))
    for name, column, kind in zip(COLUMNS, columns, (np.int32, np.int32, np.float32), strict=True):
        np.save(folder / f"{name}.npy", column.astype(kind))


def made(folder: Path, n_users: int, n_items: int) -> Interactions:
    """What `make` wrote."""
    return Interactions(
        name="made up",
        sha256="",
        licence="none",
        item_key="id",
        users=pd.DataFrame({"user_id": np.arange(n_users)}),
        items=pd.DataFrame({"item_id": np.arange(n_items)}),
        timestamps=None,
        **{name: np.load(folder / f"{name}.npy") for name in COLUMNS},
    )


class LowEnoughError(Exception):
    """The objective is as low as it has to be."""


def fit(what: str, folder: Path, n_items: int, target: float) -> dict[str, float]:
    """Seconds, CPU seconds, peak memory, and for ALS the iterations and the objective, of a fit here."""
    import torch

    data = made(folder, EASE_USERS if what == "ease" else ALS_USERS, n_items)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    log: list[float] = []
    apart = np.zeros(2)
    started = _clocks()
    if what == "ease":
        quiet: dict[str, Any] = {"on_progress": lambda *_: None, "on_iteration": lambda _: None}
        ease.fit(data, ease.EaseConfig(n_factors=FACTORS), seed=0, device=torch.device("cpu"), **quiet)
    elif what == "ials":
        ials.fit(
            data,
            CONFIG,
            seed=0,
            device=torch.device("cpu"),
            on_progress=lambda *_: None,
            on_iteration=lambda metrics: log.append(metrics["objective"]),
        )
    else:
        from implicit.als import AlternatingLeastSquares
        from scipy.sparse import csr_matrix

        a = CONFIG.unobserved_weight
        confidences = np.full(len(data), (1 + a) / a, np.float32)
        matrix = csr_matrix((confidences, (data.user_index - 1, data.item_index - 1)))
        model = AlternatingLeastSquares(
            factors=FACTORS,
            regularization=CONFIG.regularization * (1 + a) / a,
            use_cg=what == "implicit, CG",
            use_gpu=False,
            iterations=30,
            random_state=0,
            calculate_training_loss=False,
        )

        def measure(*_: object) -> None:
            nonlocal apart
            began = _clocks()
            log.append(objective(data, model.user_factors, model.item_factors))
            apart += _clocks() - began
            if log[-1] <= target:
                raise LowEnoughError

        with suppress(LowEnoughError):
            model.fit(matrix, show_progress=False, callback=measure)
    seconds, cpu_seconds = _clocks() - started - apart
    found = {"seconds": seconds, "cpu_seconds": cpu_seconds, "mib_before": before / 2**10}
    found["mib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
    return found | {"iterations": len(log), "objective": log[-1] if log else 0.0}


def objective(data: Interactions, users: np.ndarray, items: np.ndarray) -> float:
    """The objective of iALS per rating, of implicit's rows, [n_users, F] and [n_items, F]."""
    a = CONFIG.unobserved_weight
    rated = 0.0
    for rows in np.array_split(np.arange(len(data)), 1 + len(data) // 100_000):
        pairs = users[data.user_index[rows] - 1], items[data.item_index[rows] - 1]
        scores = np.einsum("nf,nf->n", *pairs, dtype=np.float64) / (1 + a)
        rated += float(np.square(1 - scores).sum())
    grams = [(table.T @ table).astype(np.float64) for table in (users, items)]
    lengths = sum(float(gram.trace()) for gram in grams) / (1 + a)
    everywhere = float((grams[0] * grams[1]).sum()) / (1 + a) ** 2
    return (rated + a * everywhere + CONFIG.regularization * lengths) / len(data)


def _clocks() -> np.ndarray:
    return np.array([time.perf_counter(), time.process_time()])


def run(*arguments: object) -> dict[str, float]:
    """`fit` in a process of its own."""
    command = [sys.executable, __file__, "--fit", *map(str, arguments)]
    environment = os.environ | {"OPENBLAS_NUM_THREADS": "1"}  # as implicit asks for
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=environment)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def bench_ease(rounds: int) -> list[str]:
    """The table of EASE's costs."""
    lines = [
        "# EASE on large catalogues",
        "",
        f"`python benchmarks/bench_fitted.py --only ease --rounds {rounds}`",
        "",
        f"Made-up ratings with a long tail by {EASE_USERS:,} users, {FACTORS} factors; medians of {rounds} "
        f"rounds. The matrix of items by items is made up to {ease.EaseConfig().max_dense_items:,} items.",
        "",
        describe_machine("torch", "numpy"),
        "",
        "| items | ratings | seconds | CPU seconds | peak MiB |",
        "| --- | --- | --- | --- | --- |",
    ]
    for n_items, n_ratings in EASE_SIZES.items():
        with tempfile.TemporaryDirectory() as folder:
            make(Path(folder), EASE_USERS, n_items, n_ratings)
            found = [run("ease", folder, n_items, 0) for _ in range(rounds)]
        seconds, cpu, mib = (statistics.median(one[name] for one in found) for name in USED)
        lines.append(f"| {n_items:,} | {n_ratings:,} | {seconds:.1f} | {cpu:.1f} | {mib:,.0f} |")
        print(lines[-1], flush=True)
    return lines


def bench_ials(n_ratings: int, rounds: int) -> list[str]:
    """The table of iALS's costs beside implicit's."""
    kinds = ("ials", "implicit, CG", "implicit, Cholesky")
    fits: dict[str, list[dict[str, float]]] = {kind: [] for kind in kinds}
    with tempfile.TemporaryDirectory() as folder:
        make(Path(folder), ALS_USERS, ALS_ITEMS, n_ratings)
        for _ in range(rounds):
            target = 0.0
            for kind in kinds:
                fits[kind].append(run(kind, folder, ALS_ITEMS, target))
                target = target or fits[kind][-1]["objective"]
                print(kind, fits[kind][-1], flush=True)
    lines = [
        "# iALS beside implicit",
        "",
        f"`python benchmarks/bench_fitted.py --only ials --ratings {n_ratings:g} --rounds {rounds}`",
        "",
        f"{n_ratings:,} made-up ratings with a long tail by {ALS_USERS:,} users of {ALS_ITEMS:,} items, "
        f"{FACTORS} factors, OMP_NUM_THREADS={os.environ.get('OMP_NUM_THREADS', 'unset')}; medians of "
        f"{rounds} rounds, and the range of the ratio. implicit stops where its objective is as low.",
        "",
        describe_machine("torch", "implicit", "numpy"),
        "",
        "| fit | iterations | objective | seconds | CPU seconds | CPU beside implicit's CG | peak MiB |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for kind in kinds:
        middle = {name: statistics.median(one[name] for one in fits[kind]) for name in fits[kind][0]}
        pairs = zip(fits[kind], fits["implicit, CG"], strict=True)
        ratios = [mine["cpu_seconds"] / theirs["cpu_seconds"] for mine, theirs in pairs]
        ratio = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
        times = f"{middle['seconds']:.1f} | {middle['cpu_seconds']:.1f}"
        cells = f"{middle['iterations']:.0f} | {middle['objective']:.5f} | {times} | {ratio}"
        lines.append(f"| {kind} | {cells} | {middle['mib']:,.0f} |")
        print(lines[-1])
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", choices=("ease", "ials"))
    parser.add_argument("--ratings", type=float, default=1e7)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--fit", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.fit:
        what, folder, n_items, target = options.fit
        print(json.dumps(fit(what, Path(folder), int(n_items), float(target))))
        return
    if options.only != "ials":
        lines = bench_ease(options.rounds)
        publish("fitted_ease", "\n".join(lines))
    if options.only != "ease":
        lines = bench_ials(int(options.ratings), options.rounds)
        publish("fitted_ials", "\n".join(lines))


if __name__ == "__main__":
    main()
