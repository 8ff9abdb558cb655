"""Small runs with made-up weights: real run folders, written by the real code, without training.

Needs torch. The bundles under tests/fixtures/bundles were exported from these (`python tests/tiny_runs.py`),
so that the tests of `serve` have real bundles in an environment without torch.
"""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pandas as pd
import torch
from fixture_bundles import FIXTURES, RAW_ID_FIXTURES, price_of

from recsys.data.interactions import Interactions
from recsys.data.splits import SplitRecipe
from recsys.models import DotBiasConfig, DotConfig, MlpConfig, build, kind_of
from recsys.models.bayes import BayesConfig
from recsys.models.ease import EaseConfig
from recsys.models.ials import IalsConfig, confidence_of, weights_of
from recsys.training.run_folder import RunFolder, current_versions
from recsys.training.run_info import FORMAT_VERSION, DataInfo, Iteration, PartInfo, RunInfo, TrainingConfig

N_USERS, N_ITEMS = 30, 50
METRICS = ("train_loss", "valid_rmse", "valid_mae")
GENRES = ("Action", "Comedy|Romance", "Drama", "Sci-Fi|Thriller", "(no genres listed)")

EASE = ("ease", EaseConfig(n_factors=7))
CONFIGS: dict[str, list[tuple[str, Any]]] = {
    "dot": [("dot", DotConfig(n_factors=6))],
    "dot-bias": [("dot-bias", DotBiasConfig(n_factors=6, y_range=(0.0, 5.5)))],
    "dot-bias-string-ids": [("dot-bias", DotBiasConfig(n_factors=6, y_range=(0.0, 5.5)))],
    "mlp": [
        (
            "mlp",
            MlpConfig(
                n_user_factors=5, n_item_factors=7, hidden_layers=(12, 6), batch_norm=True, y_range=(0.0, 5.5)
            ),
        )
    ],
    "parts": [("bayes", BayesConfig(n_factors=6)), EASE, ("ials", IalsConfig(n_factors=5))],
    "ranking": [EASE],
}
"""Kind and config of each part."""
WEIGHTS = {"ials": 0.5}
"""Of parts in a list, where it is not 1."""
RATING_WEIGHT = 0.25
"""Of the part that predicts ratings, beside parts that rank."""


def interactions(*, string_ids: bool = False) -> Interactions:
    """30 users, 50 items, about 12 ratings each. Ids are not indices: users are 10, 20, …; items 1001, …"""
    rng = np.random.default_rng(7)
    rated = rng.random((N_USERS, N_ITEMS)) < 0.25
    user_index, item_index = (axis.astype(np.int32) + 1 for axis in np.nonzero(rated))
    user_ids = 10 * np.arange(1, N_USERS + 1)
    item_ids = 1000 + np.arange(1, N_ITEMS + 1)
    return Interactions(
        name="tiny",
        sha256="0" * 64,
        licence="made up; no terms",
        item_key="id",
        users=pd.DataFrame({"user_id": [f"user-{i:03d}" for i in user_ids] if string_ids else user_ids}),
        items=pd.DataFrame(
            {
                "item_id": [f"item-{i}" for i in item_ids] if string_ids else item_ids,
                "title": [f"Movie {i}, The ({1950 + i})" for i in range(1, N_ITEMS + 1)],
                "genres": [GENRES[i % len(GENRES)] for i in range(N_ITEMS)],
                "year": pd.array([1950 + i if i % 7 else None for i in range(1, N_ITEMS + 1)], dtype="Int64"),
                "price": [price_of(i) for i in range(1, N_ITEMS + 1)],
            }
        ),
        user_index=user_index,
        item_index=item_index,
        ratings=rng.integers(1, 11, len(user_index)).astype(np.float32) / 2,
        timestamps=rng.integers(800_000_000, 900_000_000, len(user_index)),
    )


def held_out_of(data: Interactions) -> np.ndarray:
    """Which ratings are held out: bool [n], about a fifth."""
    return np.random.default_rng(5).random(len(data)) < 0.2


def weights(kind: str, config: Any) -> dict[str, torch.Tensor]:
    """State of a model with weights from numpy's generator: the same on every machine."""
    rng = np.random.default_rng(3)
    state = build(kind, config, N_USERS, N_ITEMS).state_dict()
    arrays = {
        name: rng.normal(0.0, 0.5, tuple(tensor.shape)).astype(np.float32)
        for name, tensor in state.items()
        if tensor.is_floating_point()
    }
    if kind == "bayes":
        arrays["item_biases"] = 2 * arrays["item_biases"] + 3  # some predictions lie off the scale
    if kind in ("ease", "ials"):
        arrays |= _of_users(kind, config, arrays)
    for name, array in arrays.items():
        if name.endswith("running_var"):
            array = np.abs(array) + 0.5
        if name in ("user_factors", "item_factors", "user_biases", "item_biases"):
            array[0] = array[1:].mean(axis=0)
        state[name] = torch.from_numpy(array)
    return state


def _of_users(kind: str, config: Any, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The tables of a kind that ranks whose users follow from its items, as its fit has them."""
    data = interactions()
    known = ~held_out_of(data)
    user_index, item_index, ratings = data.user_index[known], data.item_index[known], data.ratings[known]
    users = np.zeros_like(arrays["user_factors"])
    if kind == "ease":
        inputs = arrays["input_factors"].copy()
        inputs[0] = 0
        np.add.at(users, user_index, inputs[item_index])
        return {"user_factors": users, "input_factors": inputs}
    confidence = confidence_of(ratings, config.rating_weight)
    for user in range(1, N_USERS + 1):
        rows = user_index == user
        items = arrays["item_factors"][item_index[rows]].astype(np.float64)
        weighted = items.T * weights_of(ratings[rows], confidence)
        users[user] = np.linalg.solve(np.eye(items.shape[1]) + weighted @ items, weighted.sum(axis=1))
    return {"user_factors": users, "confidence": confidence}


def _part(kind: str, config: Any) -> PartInfo:
    is_trained = kind_of(kind).fit is None
    return PartInfo(
        kind=kind,
        config=asdict(config),
        objective=kind_of(kind).objectives[0],
        weight=WEIGHTS.get(kind, 1.0),
        training=TrainingConfig(weight_decay=0.1) if is_trained else None,
        history=[Iteration(number=1, metrics=dict.fromkeys(METRICS, 1.0) if is_trained else {}, seconds=0.0)],
    )


def make_run(path: Path, name: str) -> Path:
    """Write the run of `CONFIGS[name]` to `path`."""
    configs = CONFIGS[name]
    data = interactions(string_ids=name.endswith("string-ids"))
    held_out = held_out_of(data)
    info = RunInfo(
        format_version=FORMAT_VERSION,
        data=DataInfo(
            name=data.name,
            sha256=data.sha256,
            licence=data.licence,
            item_key=data.item_key,
            n_users=N_USERS,
            n_items=N_ITEMS,
            n_ratings=len(data),
            n_held_out=int(held_out.sum()),
            ratings_range=(float(data.ratings.min()), float(data.ratings.max())),
        ),
        split=SplitRecipe(kind="random"),
        seed=42,
        device="cpu",
        parts=[_part(*part) for part in configs],
        files={},
        versions=current_versions(),
        rating_weight=RATING_WEIGHT if len(configs) > 1 else 0.0,
    )
    with RunFolder.create(path, overwrite=False) as folder:
        info = msgspec.structs.replace(info, files=folder.write_data(data, held_out))
        for place, part in enumerate(configs):
            optimizer = None if info.parts[place].training is None else {}
            info = folder.commit(info, place, weights(*part), optimizer)
    return path


OPTIONAL = ("raw_ids", "filtered", "explain", "variety")
"""Options of an export that add graphs."""

PACKED = {
    "dot-int4": ("dot", "int4"),
    "mlp-fp16": ("mlp", "fp16"),
    "parts-int8": ("parts", "int8"),
}
"""Bundles with every graph and packed tables: the run, and the precision."""


SHARDS = {
    "dot-bias-shards": ("dot-bias", "fp32"),
    "parts-int8-shards": ("parts", "int8"),
}
"""Bundles in three shards, likewise."""


def main() -> None:
    """Make the fixtures anew."""
    from export.write.bundle import export_run

    with tempfile.TemporaryDirectory() as temporary:
        for name in CONFIGS:
            run = make_run(Path(temporary) / name, name)
            for fixtures in (FIXTURES, RAW_ID_FIXTURES):
                all_graphs = fixtures == RAW_ID_FIXTURES
                shutil.rmtree(fixtures / name, ignore_errors=True)
                export_run(run, fixtures / name, **dict.fromkeys(OPTIONAL, all_graphs))
        for name, (of, precision) in PACKED.items():
            output = RAW_ID_FIXTURES / name
            shutil.rmtree(output, ignore_errors=True)
            export_run(Path(temporary) / of, output, **dict.fromkeys(OPTIONAL, True), precision=precision)
        for name, (of, precision) in SHARDS.items():
            shutil.rmtree(RAW_ID_FIXTURES / name, ignore_errors=True)
            export_run(Path(temporary) / of, RAW_ID_FIXTURES / name, precision=precision, shards=3)


if __name__ == "__main__":
    main()
