"""A new site that starts from another's tables, against one that starts from nothing.

    python benchmarks/bench_init_from.py [--seeds 3]

The users of the embedded data set are dealt to two sites, nine in ten to the old one. The new one holds out a
fifth of its ratings. What the old site knows of films is all that it hands over.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
from publish import publish

from recsys.data import load
from recsys.data.interactions import Interactions
from recsys.training.pretrained import match_items, read_run
from recsys.training.settings import new_settings
from recsys.training.train import Machine, train

EPOCHS = (1, 2, 5, 10)
KINDS = ("dot", "dot-bias", "mlp")
MACHINE = Machine("cpu")


def part(data: Interactions, users: np.ndarray) -> Interactions:
    """The ratings of some users: bool [1 + n_users]. Films stay all; ids keep their meaning."""
    rows = users[data.user_index]
    number = np.cumsum(users)
    return replace(
        data,
        users=data.users[users[1:]].reset_index(drop=True),
        user_index=number[data.user_index[rows]].astype(np.int32),
        item_index=data.item_index[rows],
        ratings=data.ratings[rows],
        timestamps=None if data.timestamps is None else data.timestamps[rows],
    )


def measure(data: Interactions, kind: str, seed: int, folder: Path) -> list[tuple[float, float]]:
    """RMSE of the new site, from nothing and from the old site's tables, after each of EPOCHS."""
    old_users = np.random.default_rng(seed).random(1 + data.n_users) < 0.9
    old_users[0] = False
    new_users = ~old_users
    new_users[0] = False
    new = part(data, new_users)
    train(part(data, old_users), new_settings(kind, {"seed": seed}), folder / "old", machine=MACHINE)
    source = read_run(folder / "old")
    start = match_items(source, new, "id")
    found = []
    for epochs in EPOCHS:
        asked = {"seed": seed, "epochs": epochs, "batch_size": 64}
        cold = train(new, new_settings(kind, asked), folder / f"cold{epochs}", machine=MACHINE)
        settings = new_settings(*source.settings(kind, asked))
        warm = train(new, settings, folder / f"warm{epochs}", start=start, machine=MACHINE)
        found.append((cold.info.metrics["rmse"], warm.info.metrics["rmse"]))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    data = load("ml-latest-small")
    lines = [
        "# A new site's first model, from nothing and from another site's tables",
        "",
        f"`python benchmarks/bench_init_from.py --seeds {arguments.seeds}`",
        "",
        "MovieLens latest-small, a tenth of the users as the new site, batch 64, all else by default. RMSE "
        "on a fifth of its ratings; medians over the seeds, and the least and the most gained.",
        "",
        "| model | epochs | from nothing | from tables | gained |",
        "| --- | --- | --- | --- | --- |",
    ]
    for kind in KINDS:
        measured = []
        for seed in range(1, 1 + arguments.seeds):
            with tempfile.TemporaryDirectory() as folder:
                measured.append(measure(data, kind, seed, Path(folder)))
        for epochs, pairs in zip(EPOCHS, zip(*measured, strict=True), strict=True):
            cold, warm = zip(*pairs, strict=True)
            gained = [a - b for a, b in pairs]
            lines.append(
                f"| {kind} | {epochs} | {statistics.median(cold):.4f} | {statistics.median(warm):.4f} "
                f"| {min(gained):+.4f} to {max(gained):+.4f} |"
            )
            print(lines[-1], flush=True)
    publish("init_from", "\n".join(lines))


if __name__ == "__main__":
    main()
