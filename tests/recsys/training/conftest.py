from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from made_up import interactions

from recsys.data.interactions import Interactions
from recsys.training.checkpoint import Run
from recsys.training.settings import new_settings
from recsys.training.train import Machine, train

N_USERS, N_ITEMS = 40, 30


@pytest.fixture(scope="session")
def checkerboard() -> Interactions:
    """5 where user and item are both odd or both even, else 1: any held-out rating follows from the others.

    The last user and the last item have no rating; ids are no indices.
    """
    users, items = (axis.ravel() for axis in np.mgrid[1 : N_USERS + 1, 1 : N_ITEMS + 1])
    catalogue = pd.DataFrame(
        {
            "item_id": 100 + np.arange(N_ITEMS + 1),
            "title": [f"Ängel {i}" for i in range(N_ITEMS + 1)],
            "year": pd.array([None, *range(1990, 1990 + N_ITEMS)], dtype="Int64"),
        }
    )
    return interactions(
        users,
        items,
        np.where((users + items) % 2 == 0, 5, 1),
        users=[f"user {i}" for i in range(N_USERS + 1)],
        items=catalogue,
        timestamps=np.arange(len(users)),
        name="checkerboard",
    )


Train = Callable[..., Run]


@pytest.fixture(scope="session")
def train_checkerboard(checkerboard: Interactions) -> Train:
    """Train on the checkerboard for three epochs, on the CPU."""

    def run(kind: str, output: Path, **options: object) -> Run:
        keywords = {name: options.pop(name) for name in ("overwrite", "reporter") if name in options}
        settings = new_settings(kind, {"epochs": 3, "batch_size": 32, "factors": 8} | options)
        return train(checkerboard, settings, output, machine=Machine("cpu", "off"), **keywords)  # type: ignore[arg-type]

    return run


@pytest.fixture
def quick(train_checkerboard: Train, tmp_path: Path) -> Train:
    """The same, by default a dot-bias model into the test's own folder."""

    def run(kind: str = "dot-bias", output: Path = tmp_path / "run", **options: object) -> Run:
        return train_checkerboard(kind, output, **options)

    return run
