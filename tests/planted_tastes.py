"""A model whose right answers are provable: users of three tastes, each of which likes only its own items.

Needs torch, as tiny_runs does.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_runs
import torch

N_TASTES = 3


def taste_of(index: np.ndarray | int) -> np.ndarray:
    """The taste of users or items, by their indices."""
    return np.asarray(index) % N_TASTES


def weights(kind: str, config: Any) -> dict[str, torch.Tensor]:
    """Weights of `dot-bias` with 6 factors, of which three are in use."""
    tables = {
        "user_factors": 2.0 * np.eye(6)[taste_of(np.arange(tiny_runs.N_USERS + 1))],
        "item_factors": 2.0 * np.eye(6)[taste_of(np.arange(tiny_runs.N_ITEMS + 1))],
        "user_biases": np.linspace(-1, 1, tiny_runs.N_USERS + 1)[:, None],
        "item_biases": np.linspace(-0.5, 0.5, tiny_runs.N_ITEMS + 1)[:, None],
    }
    for table in tables.values():
        table[0] = table[1:].mean(axis=0)
    return {name: torch.from_numpy(table.astype(np.float32)) for name, table in tables.items()}


def make_run(path: Path) -> Path:
    """A run folder with these weights."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tiny_runs, "weights", weights)
        return tiny_runs.make_run(path, "dot-bias")
