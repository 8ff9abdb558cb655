"""Lists and training steps on an NVIDIA GPU, beside implicit's kernels and compiled torch.

    python benchmarks/bench_gpu.py [--items 10000 100000 1000000] [--rounds 5] [--calls 50]

`--device cpu` is a dry run of the same calls, which writes no report. Random `dot-bias` tables of 64 factors,
lists of ten without what users have rated (torch leaves nothing out), blocks of calls in turn. Bundles: fp32,
the same with TF32, fp16. A step has 8,192 ratings.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import implicit.cpu.als
import implicit.gpu
import implicit.gpu.als
import numpy as np
import torch
from machine import describe_machine
from made_up_run import make_run
from publish import publish
from scipy.sparse import csr_matrix

from export.write.bundle import export_run
from recsys.errors import ConfigError
from recsys.models import DotBiasConfig, build
from recsys.training.device import Compilation, choose_device, tf32_products
from recsys.training.distributed import Team
from recsys.training.learner import Setting, make_learner
from recsys.training.run_info import TrainingConfig
from serve.runtime.recommender import Recommender

N_USERS, N_FACTORS, TOP_K, RATINGS_PER_USER = 2_000, 64, 10, 20
BATCH_USERS, BATCH_RATINGS = 256, 8192

Call = Callable[[int], object]


def medians(calls: dict[str, Call], n_rounds: int, n_calls: int) -> dict[str, float]:
    """Median seconds of each call, in turn; the first round warms up, compiles and captures."""
    taken: dict[str, list[float]] = {name: [] for name in calls}
    for number in range(1 + n_rounds):
        for name, call in calls.items():
            for place in range(n_calls):
                started = time.perf_counter()
                call(number * n_calls + place)
                if number:
                    taken[name].append(time.perf_counter() - started)
    return {name: statistics.median(times) for name, times in taken.items()}


def implicit_call(served: Recommender, users: np.ndarray, device: torch.device) -> Call | None:
    """implicit's lists from the same factors, by its GPU kernels on a GPU; None: it has none here."""
    factors = [np.array(served.bundle.table(f"{side}_factors")[1:]) for side in ("user", "item")]
    model: Any
    if device.type == "cpu":
        model = implicit.cpu.als.AlternatingLeastSquares(factors=N_FACTORS)
        model.user_factors, model.item_factors = factors
    elif implicit.gpu.HAS_CUDA:
        model = implicit.gpu.als.AlternatingLeastSquares(factors=N_FACTORS)
        model.user_factors, model.item_factors = map(implicit.gpu.Matrix, factors)
    else:
        return None
    rated = [served.seen.history(user)[0] - 1 for user in range(1, N_USERS + 1)]
    rows = np.repeat(np.arange(N_USERS), [len(one) for one in rated])
    ones = np.ones(len(rows), np.float32)
    seen = csr_matrix((ones, (rows, np.concatenate(rated))), (N_USERS, len(factors[1])))
    return lambda number: model.recommend(chosen := users[number % len(users)], seen[chosen], N=TOP_K)


def torch_call(served: Recommender, users: np.ndarray, device: torch.device) -> Call:
    """A compiled product and `topk`, to the host; nothing is left out."""
    table = {
        name: torch.from_numpy(np.array(served.bundle.table(name))).to(device)
        for name in ("user_factors", "item_factors", "item_biases")
    }

    def best(index: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        scores = table["user_factors"][index] @ table["item_factors"].T + table["item_biases"].T
        values, indices = scores.topk(TOP_K)
        return values, indices

    compiled = torch.compile(best, mode="reduce-overhead" if device.type == "cuda" else None)
    return lambda number: [
        found.cpu() for found in compiled(torch.from_numpy(users[number % len(users)] + 1).to(device))
    ]


def list_rows(n_items: int, device: torch.device, n_rounds: int, n_calls: int) -> Iterator[str]:
    """The rows of the report for one size of catalogue: one user, and a batch of them."""
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as temporary:
        run = make_run(
            Path(temporary) / "run",
            n_users=N_USERS,
            n_items=n_items,
            n_ratings=N_USERS * RATINGS_PER_USER,
            n_factors=N_FACTORS,
        )
        loaded = {}
        for precision in ("fp32", "fp16"):
            export_run(run, Path(temporary) / precision, precision=precision)
            loaded[precision] = Recommender.load(Path(temporary) / precision, device.type)  # type: ignore[arg-type]
        loaded["TF32"] = Recommender.load(Path(temporary) / "fp32", device.type, tf32=True)  # type: ignore[arg-type]
        for n_users in (1, BATCH_USERS):
            users = rng.integers(0, N_USERS, (64, n_users))

            def recommend(served: Recommender, users: np.ndarray = users) -> Call:
                ids = [[int(user) + 1 for user in row] for row in users]
                return lambda number: served.recommend(ids[number % len(ids)], TOP_K)

            calls: dict[str, Call] = {name: recommend(served) for name, served in loaded.items()}
            if (peer := implicit_call(loaded["fp32"], users, device)) is not None:
                calls["implicit"] = peer
            calls["torch, compiled"] = torch_call(loaded["fp32"], users, device)
            found = medians(calls, n_rounds, n_calls)
            for name, seconds in found.items():
                ratios = [
                    f"{seconds / found[peer]:.2f}" if peer in found else ""
                    for peer in ("implicit", "torch, compiled")
                ]
                cells = [f"{n_items:,}", str(n_users), name, f"{seconds * 1e3:.3f}", *ratios]
                yield f"| {' | '.join(cells)} |"


def stepper(n_rows: int, device: torch.device, compilation: Compilation, *, tf32: bool) -> Call:
    """One training step on whole tables, waited for."""
    model = build("dot-bias", DotBiasConfig(N_FACTORS, (0.5, 5.5)), n_rows, n_rows).to(device)
    setting = Setting(TrainingConfig(weight_decay=0.1), 1 << 20, Team(device=device), False, compilation)
    learner, numbers = make_learner(model, setting, None, sparse=False), itertools.count()
    data = [torch.randint(1, 1 + n_rows, (BATCH_RATINGS,), device=device) for _ in range(2)]
    ratings = torch.rand(BATCH_RATINGS, device=device) * 5

    def step(_: int) -> None:
        with tf32_products(tf32):
            scores = learner.forward(*learner.begin(next(numbers), *data))
            learner.finish((scores - ratings) * (2 / len(ratings)))
        if device.type == "cuda":
            torch.cuda.synchronize()

    return step


def step_rows(device: torch.device, n_rounds: int, n_calls: int) -> Iterator[str]:
    """The rows of the report for a training step."""
    for n_rows in (10_000, 100_000):
        calls = {
            "not compiled": stepper(n_rows, device, "none", tf32=False),
            "compiled": stepper(n_rows, device, "plain", tf32=False),
            "compiled, captured": stepper(n_rows, device, "captured", tf32=False),
            "compiled, captured, TF32": stepper(n_rows, device, "captured", tf32=True),
        }
        found = medians(calls, n_rounds, n_calls)
        for name, seconds in found.items():
            yield f"| {n_rows:,} | {name} | {seconds * 1e3:.3f} | {seconds / found['not compiled']:.2f} |"


def main() -> None:
    """Measure, print, and on a GPU write the report."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--items", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--calls", type=int, default=50)
    given = parser.parse_args()
    try:
        device = choose_device(given.device)
    except ConfigError as error:
        parser.error(str(error))
    card = torch.cuda.get_device_name() if device.type == "cuda" else "no GPU: a dry run"
    lists = [row for n_items in given.items for row in list_rows(n_items, device, given.rounds, given.calls)]
    report = "\n".join(
        [
            "# On a GPU",
            "",
            "`python benchmarks/bench_gpu.py`",
            "",
            f"{card}; CUDA {torch.version.cuda}. {describe_machine('torch', 'onnxruntime-gpu', 'implicit')}",
            f"Medians of {given.rounds} rounds of {given.calls} calls. implicit adds no biases, torch no",
            "user's, and leaves nothing out.",
            "",
            "| items | users | call | ms | ratio to implicit | to torch |",
            "| --- | --- | --- | --- | --- | --- |",
            *lists,
            "",
            f"A step of {BATCH_RATINGS:,} ratings on whole tables, `dot-bias`, {N_FACTORS} factors:",
            "",
            "| users, and items | step | ms | ratio |",
            "| --- | --- | --- | --- |",
            *step_rows(device, given.rounds, given.calls),
            "",
        ]
    )
    print(report)
    if device.type == "cuda":
        publish("gpu", report)


if __name__ == "__main__":
    main()
