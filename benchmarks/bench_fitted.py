"""What the fitted kinds cost where data is large: EASE by its items, iALS by its ratings beside `implicit`.

    python benchmarks/bench_fitted.py [--ratings 1e7] [--rounds 3] [--without-ease]

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
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from machine import describe_machine

from recsys.data.interactions import Interactions
from recsys.models import ials

RESULTS = Path(__file__).parent / "results" / "fitted.md"
FACTORS = 64
CONFIG = ials.IalsConfig(n_factors=FACTORS, rating_weight=0.0)
EASE_SIZES = {20_000: 1_000_000, 100_000: 1_000_000}
"""Items -> ratings, by 50,000 users."""
ALS_USERS, ALS_ITEMS = 150_000, 50_000
TAIL = 0.7
"""Exponent of the power laws."""


def made_up(n_users: int, n_items: int, n_ratings: int) -> Interactions:
    """Ratings of 1 to 5 without meaning."""
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
    return Interactions(
        name="made up",
        sha256="",
        licence="none",
        item_key="id",
        users=pd.DataFrame({"user_id": np.arange(n_users)}),
        items=pd.DataFrame({"item_id": np.arange(n_items)}),
        user_index=(1 + pairs // n_items).astype(np.int32),
        item_index=(1 + pairs % n_items).astype(np.int32),
        ratings=rng.integers(1, 6, n_ratings).astype(np.float32),
        timestamps=None,
    )


class LowEnoughError(Exception):
    """The objective is as low as it has to be."""


def fit(what: str, n_items: int, n_ratings: int, target: float) -> dict[str, float]:
    """Seconds, CPU seconds, peak memory, and for ALS the iterations and the objective, of a fit here."""
    import torch

    from recsys.models import ease

    data = made_up(50_000 if what == "ease" else ALS_USERS, n_items, n_ratings)
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
        from implicit.als import AlternatingLeastSquares  # type: ignore[import-not-found]
        from scipy.sparse import csr_matrix

        a = CONFIG.unobserved_weight
        confidences = np.full(n_ratings, (1 + a) / a, np.float32)
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
    found = {"seconds": seconds, "cpu_seconds": cpu_seconds, "data_mib": before / 2**10}
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


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--ratings", type=float, default=1e7)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--without-ease", action="store_true")
    parser.add_argument("--fit", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.fit:
        what, n_items, n_ratings, target = options.fit
        print(json.dumps(fit(what, int(n_items), int(n_ratings), float(target))))
        return
    lines = []
    if not options.without_ease:
        lines = ["| fit | items | ratings | seconds | peak MiB |", "| --- | --- | --- | --- | --- |"]
    for n_items, n_ratings in EASE_SIZES.items() if lines else ():
        found = [run("ease", n_items, n_ratings, 0) for _ in range(options.rounds)]
        seconds, mib = (statistics.median(one[name] for one in found) for name in ("seconds", "mib"))
        lines.append(f"| ease | {n_items:,} | {n_ratings:,} | {seconds:.1f} | {mib:,.0f} |")
        print(lines[-1], flush=True)
    n_ratings = int(options.ratings)
    kinds = ("ials", "implicit, CG", "implicit, Cholesky")
    fits: dict[str, list[dict[str, float]]] = {kind: [] for kind in kinds}
    for _ in range(options.rounds):
        target = 0.0
        for kind in kinds:
            fits[kind].append(run(kind, ALS_ITEMS, n_ratings, target))
            target = target or fits[kind][-1]["objective"]
            print(kind, fits[kind][-1], flush=True)
    lines += [
        "",
        f"{n_ratings:,} ratings by {ALS_USERS:,} users of {ALS_ITEMS:,} items, {FACTORS} factors, "
        f"{options.rounds} rounds, OMP_NUM_THREADS={os.environ.get('OMP_NUM_THREADS', 'unset')}: medians, "
        "and the range of the ratio.",
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
    intro = (
        (__doc__ or "").partition("\n\n")[2].replace("    python", "`python", 1).replace("ease]", "ease]`", 1)
    )
    machine = describe_machine("torch", "implicit", "numpy")
    RESULTS.write_text(f"# Fitted kinds on large data\n\n{intro}\n{machine}\n\n" + "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
