"""A step of gradient training by rows of the tables: AdamW on whole tables and sparse updates, in turn.

    python benchmarks/bench_training.py [--steps 30]

`dot-bias`, 64 factors, steps of 8,192 ratings of users and items drawn uniformly, one thread. Each round does
one step of each, beside one of AdamW on tables of 10,000 rows, which the ratios are of.
"""

from __future__ import annotations

import argparse
import itertools
import os
import statistics
import time
from collections.abc import Callable
from typing import NamedTuple

import torch
from machine import describe_machine
from publish import publish
from torch import nn

from recsys.models import DotBiasConfig, build
from recsys.training.distributed import Team
from recsys.training.learner import Setting, make_learner
from recsys.training.run_info import TrainingConfig

N_FACTORS, BATCH = 64, 8192
SMALLEST, MOST_ITEMS = 10_000, 100_000
USERS = (SMALLEST, 100_000, 1_000_000, 3_000_000, 10_000_000)
MOST_DENSE = 1_000_000
"""Users up to which whole tables are updated, for the memory: four times the tables."""
WARM_UP = 5
COLUMNS = ("whole tables", "sparse", "bare")


class Stepper(NamedTuple):
    step: Callable[[], float]
    """Does one step and returns its seconds."""
    model: nn.Module
    seconds: float
    """That new tables take."""


def stepper(n_users: int, n_items: int, n_steps: int, *, sparse: bool) -> Stepper:
    """A model of a size, and how it is trained."""
    config = TrainingConfig(weight_decay=0.1, batch_size=BATCH)
    started = time.perf_counter()
    model = build("dot-bias", DotBiasConfig(N_FACTORS, (0.5, 5.5)), n_users, n_items)
    seconds = time.perf_counter() - started
    setting = Setting(config, n_steps, Team(), ranks=False, compilation="none")
    learner = make_learner(model, setting, None, sparse=sparse)
    numbers = itertools.count()

    def step() -> float:
        users, items = torch.randint(1, 1 + n_users, (BATCH,)), torch.randint(1, 1 + n_items, (BATCH,))
        ratings = torch.rand(BATCH) * 5
        started = time.perf_counter()
        places = learner.begin(next(numbers), users, items)
        learner.finish((learner.forward(*places) - ratings) * (2 / BATCH))
        return time.perf_counter() - started

    return Stepper(step, model, seconds)


def bare(model: nn.Module) -> float:
    """Seconds of reading and writing back, from and to three places, as many rows as a step may use.

    They are the weights' rows; a step has the weights and their two moments.
    """
    seconds = 0.0
    for name in ("user_factors", "item_factors"):
        table = model.get_parameter(name).detach()
        for _ in range(3):
            index = torch.randint(1, len(table), (BATCH,)).unique()  # type: ignore[no-untyped-call]
            started = time.perf_counter()
            rows = table.index_select(0, index)
            table.numpy()[index.numpy()] = rows.numpy()
            seconds += time.perf_counter() - started
    return seconds


def spread(values: list[float], digits: int) -> str:
    """Median, and the quartiles in brackets."""
    low, middle, high = statistics.quantiles(values, n=4)
    return f"{middle:.{digits}f} ({low:.{digits}f}-{high:.{digits}f})"


def row(n_users: int, n_steps: int) -> str:
    """Measure one size of table; returns its row of the report."""
    n_items = min(n_users, MOST_ITEMS)
    reference = stepper(SMALLEST, SMALLEST, n_steps, sparse=False)
    by_rows = stepper(n_users, n_items, n_steps, sparse=True)
    dense = stepper(n_users, n_items, n_steps, sparse=False) if n_users <= MOST_DENSE else None
    rounds = [
        (reference.step(), by_rows.step(), bare(by_rows.model), dense.step() if dense else None)
        for _ in range(n_steps)
    ][WARM_UP:]
    first, sparse, alone, whole = zip(*rounds, strict=True)
    cells = [f"{n_users:,}", f"{n_items:,}", f"{by_rows.seconds:.2f}"]
    for times in (whole, sparse, alone):
        if times[0] is None:
            cells += ["", ""]
        else:
            ratios = [time / one for time, one in zip(times, first, strict=True)]
            cells += [spread([1e3 * time for time in times], 1), spread(ratios, 2)]
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Measure, print and write the report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--steps", type=int, default=30, help="rounds for each size of table")
    n_steps = parser.parse_args().steps
    torch.set_num_threads(1)
    lines = [
        "# A step of gradient training by rows of the tables",
        "",
        f"`python benchmarks/bench_training.py --steps {n_steps}`",
        "",
        f"`dot-bias`, {N_FACTORS} factors, steps of {BATCH:,} ratings, one thread; medians and quartiles in",
        f"ms, and as multiples of a step of AdamW on {SMALLEST:,} users and items in the same round. Sparse",
        "updates include the first touch of their moments' pages. Bare: reading and writing back the rows",
        "of a step's weights and moments, and nothing else.",
        "",
        f"{describe_machine('torch')} Load average at the start: {os.getloadavg()[0]:.0f}.",
        "",
        f"| users | items | new tables, s |{'|'.join(f' {what}, ms | multiple ' for what in COLUMNS)}|",
        f"| --- | --- | --- |{len(COLUMNS) * ' --- | --- |'}",
    ]
    for n_users in USERS:
        lines.append(row(n_users, n_steps))
        print(lines[-1], flush=True)
    publish("training", "\n".join(lines))


if __name__ == "__main__":
    main()
