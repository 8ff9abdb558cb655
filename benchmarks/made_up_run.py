"""A run folder of any size with made-up weights, written by the project's own writer, without training.

    python benchmarks/made_up_run.py OUTPUT [--users 200000 --items 1000000 --ratings 4000000 --factors 64]

Which items are rated is long-tailed (Zipf), and a fifth of the ratings is held out.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path

import msgspec
import numpy as np
import pandas as pd
import torch

from recsys.data.interactions import Interactions
from recsys.data.splits import SplitRecipe
from recsys.models import DotBiasConfig
from recsys.training.run_folder import RunFolder, current_versions
from recsys.training.run_info import FORMAT_VERSION, DataInfo, Iteration, PartInfo, RunInfo, TrainingConfig

Y_RANGE = (0.0, 5.5)
ZIPF = 1.2


def interactions(n_users: int, n_items: int, n_ratings: int) -> Interactions:
    """Ratings of random users; every item is there, most without a rating."""
    rng = np.random.default_rng(0)
    ids = rng.permutation(n_items)  # popular items lie anywhere in the table
    users = rng.integers(0, n_users, n_ratings)
    items = ids[np.minimum(rng.zipf(ZIPF, n_ratings), rng.integers(1, n_items + 1, n_ratings)) - 1]
    pairs = rng.permutation(np.unique(users * n_items + items))
    return Interactions(
        name="made up",
        sha256="0" * 64,
        licence="made up; no terms",
        item_key="id",
        users=pd.DataFrame({"user_id": np.arange(1, n_users + 1)}),
        items=pd.DataFrame({"item_id": np.arange(1, n_items + 1)}),
        user_index=(pairs // n_items + 1).astype(np.int32),
        item_index=(pairs % n_items + 1).astype(np.int32),
        ratings=rng.integers(1, 11, len(pairs)).astype(np.float32) / 2,
        timestamps=None,
    )


def weights(n_users: int, n_items: int, n_factors: int) -> dict[str, torch.Tensor]:
    """The state of a dot-bias model; row 0 is the average row."""
    rng = np.random.default_rng(1)
    shapes = {
        "user_factors": (n_users, n_factors),
        "item_factors": (n_items, n_factors),
        "user_biases": (n_users, 1),
        "item_biases": (n_items, 1),
    }
    state = {}
    for name, (n, width) in shapes.items():
        table = rng.standard_normal((n + 1, width), np.float32)
        table *= 0.2
        table[0] = table[1:].mean(axis=0)
        state[name] = torch.from_numpy(table)
    return state


def make_run(path: Path, *, n_users: int, n_items: int, n_ratings: int, n_factors: int) -> Path:
    """Write a dot-bias run to `path`."""
    data = interactions(n_users, n_items, n_ratings)
    held_out = np.random.default_rng(2).random(len(data)) < 0.2
    metrics = dict.fromkeys(("train_loss", "valid_rmse", "valid_mae"), 1.0)
    info = RunInfo(
        format_version=FORMAT_VERSION,
        data=DataInfo.of(data, int(held_out.sum()), (0.5, 5.0), implicit=False),
        split=SplitRecipe(kind="random"),
        seed=42,
        device="cpu",
        parts=[
            PartInfo(
                kind="dot-bias",
                config=asdict(DotBiasConfig(n_factors=n_factors, y_range=Y_RANGE)),
                objective="ratings",
                weight=1.0,
                training=TrainingConfig(weight_decay=0.1),
                history=[Iteration(number=1, metrics=metrics, seconds=0.0)],
            )
        ],
        files={},
        versions=current_versions(),
    )
    with RunFolder.create(path, overwrite=False) as folder:
        info = msgspec.structs.replace(info, files=folder.write_data(data, held_out))
        folder.commit(info, 0, weights(n_users, n_items, n_factors), {})
    return path


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("output", type=Path)
    parser.add_argument("--users", type=int, default=200_000)
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--ratings", type=int, default=4_000_000)
    parser.add_argument("--factors", type=int, default=64)
    given = parser.parse_args()
    make_run(
        given.output,
        n_users=given.users,
        n_items=given.items,
        n_ratings=given.ratings,
        n_factors=given.factors,
    )


if __name__ == "__main__":
    main()
