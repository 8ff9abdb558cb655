"""What the fitted kinds cost where data is large: EASE by its items, iALS by its ratings beside `implicit`.

    python benchmarks/bench_fitted.py [--ratings 1e7] [--rounds 3]

`implicit` is installed by hand (`pip install implicit`). The ratings are made up, with a long tail:
popularity and activity follow power laws. Every fit has a process of its own; iALS and implicit take turns.
The time of an iteration is (the time of 5 - the time of 1) / 4.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from machine import describe_machine

from recsys.data.interactions import Interactions

RESULTS = Path(__file__).parent / "results" / "fitted.md"
FACTORS = 64
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


def fit(what: str, n_items: int, n_ratings: int, iterations: int) -> dict[str, float]:
    """Seconds and peak memory of a fit in this process."""
    import torch

    from recsys.models import ease, ials

    data = made_up(50_000 if what == "ease" else ALS_USERS, n_items, n_ratings)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    quiet: dict[str, Any] = {"on_progress": lambda *_: None, "on_iteration": lambda _: None}
    started = time.perf_counter()
    if what == "ease":
        ease.fit(data, ease.EaseConfig(n_factors=FACTORS), seed=0, device=torch.device("cpu"), **quiet)
    elif what == "ials":
        config = ials.IalsConfig(n_factors=FACTORS, iterations=iterations)
        ials.fit(data, config, seed=0, device=torch.device("cpu"), **quiet)
    else:
        from implicit.als import AlternatingLeastSquares  # type: ignore[import-not-found]
        from scipy.sparse import csr_matrix

        matrix = csr_matrix((data.ratings, (data.user_index - 1, data.item_index - 1)))
        model = AlternatingLeastSquares(
            factors=FACTORS,
            use_cg=what == "implicit, CG",
            use_gpu=False,
            iterations=iterations,
            random_state=0,
            calculate_training_loss=False,
        )
        model.fit(matrix, show_progress=False)
    seconds = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"seconds": seconds, "mib": peak / 2**10, "data_mib": before / 2**10}


def run(*arguments: object) -> dict[str, float]:
    """`fit` in a process of its own."""
    command = [sys.executable, __file__, "--fit", *map(str, arguments)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--ratings", type=float, default=1e7)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--fit", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.fit:
        what, *sizes = options.fit
        print(json.dumps(fit(what, *map(int, sizes))))
        return
    lines = ["| fit | items | ratings | seconds | peak MiB |", "| --- | --- | --- | --- | --- |"]
    for n_items, n_ratings in EASE_SIZES.items():
        found = [run("ease", n_items, n_ratings, 1) for _ in range(options.rounds)]
        seconds, mib = (statistics.median(one[name] for one in found) for name in ("seconds", "mib"))
        lines.append(f"| ease | {n_items:,} | {n_ratings:,} | {seconds:.1f} | {mib:,.0f} |")
        print(lines[-1], flush=True)
    n_ratings = int(options.ratings)
    kinds = ("ials", "implicit, CG", "implicit, Cholesky")
    each: dict[str, list[float]] = {kind: [] for kind in kinds}
    memory: dict[str, list[float]] = {kind: [] for kind in kinds}
    for _ in range(options.rounds):
        for kind in kinds:
            one, five = (run(kind, ALS_ITEMS, n_ratings, iterations) for iterations in (1, 5))
            each[kind].append((five["seconds"] - one["seconds"]) / 4)
            memory[kind].append(five["mib"])
            print(kind, each[kind][-1], flush=True)
    lines += [
        "",
        f"{n_ratings:,} ratings by {ALS_USERS:,} users of {ALS_ITEMS:,} items, {FACTORS} factors.",
        "",
    ]
    lines += ["| fit | seconds an iteration | beside implicit's CG | peak MiB |", "| --- | --- | --- | --- |"]
    for kind in kinds:
        ratios = [mine / theirs for mine, theirs in zip(each[kind], each["implicit, CG"], strict=True)]
        cells = [f"{statistics.median(each[kind]):.2f}", f"{statistics.median(ratios):.2f}"]
        lines.append(f"| {kind} | {' | '.join(cells)} | {statistics.median(memory[kind]):,.0f} |")
        print(lines[-1])
    intro = (__doc__ or "").partition("\n\n")[2].replace("    python", "`python", 1).replace("3]", "3]`", 1)
    machine = describe_machine("torch", "implicit", "numpy")
    RESULTS.write_text(f"# Fitted kinds on large data\n\n{intro}\n{machine}\n\n" + "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
