"""Runs, arrays and ways to run a graph, for the tests of `export`."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import onnxruntime as ort
import pytest
import tiny_runs
from fixture_bundles import FIXTURES

from export.model.arrays import Arrays
from export.model.dot import DotArrays
from export.model.mlp import MlpArrays

N_USERS, N_ITEMS, N_FACTORS = 9, 23, 5

Run = Callable[[ir.Model, dict[str, Any]], dict[str, np.ndarray]]


@pytest.fixture(scope="session")
def run_model() -> Run:
    """Run a graph in onnxruntime on the CPU."""

    def run(model: ir.Model, feeds: dict[str, Any]) -> dict[str, np.ndarray]:
        session = ort.InferenceSession(
            ir.to_proto(model).SerializeToString(), providers=["CPUExecutionProvider"]
        )
        names = [output.name for output in session.get_outputs()]
        return dict(zip(names, session.run(names, feeds), strict=True))

    return run


def make_arrays(kind: str, rng: np.random.Generator) -> Arrays:
    def normal(*shape: int) -> np.ndarray:
        return rng.normal(0, 0.7, shape).astype(np.float32)

    if kind.startswith("mlp"):
        widths = {"mlp-linear": [1], "mlp": [6, 1], "mlp-deep": [6, 4, 1]}[kind]
        return MlpArrays(
            user_hidden=normal(N_USERS + 1, widths[0]),
            item_hidden=normal(N_ITEMS + 1, widths[0]),
            layers=tuple((normal(o, i), normal(o)) for i, o in pairwise(widths)),
            item_factors=normal(N_ITEMS + 1, N_FACTORS),
            y_range=(0.0, 5.5),
        )
    biased = kind == "dot-bias"
    return DotArrays(
        user_factors=normal(N_USERS + 1, N_FACTORS),
        item_factors=normal(N_ITEMS + 1, N_FACTORS),
        user_biases=normal(N_USERS + 1, 1) if biased else None,
        item_biases=normal(N_ITEMS + 1, 1) if biased else None,
        y_range=None if kind == "dot" else (0.5, 5.5),
    )


KINDS = ["dot", "dot-range", "dot-bias", "mlp-linear", "mlp", "mlp-deep"]


@pytest.fixture(params=KINDS)
def arrays(request: pytest.FixtureRequest, rng: np.random.Generator) -> Arrays:
    """Every kind of model, with random weights: 9 users, 23 items."""
    return make_arrays(request.param, rng)


@pytest.fixture(params=["dot", "dot-range", "dot-bias"])
def dot_arrays(request: pytest.FixtureRequest, rng: np.random.Generator) -> DotArrays:
    arrays = make_arrays(request.param, rng)
    assert isinstance(arrays, DotArrays)
    return arrays


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Run folders by the names of `tiny_runs.CONFIGS`, made once."""
    made: dict[str, Path] = {}

    def get(name: str) -> Path:
        if name not in made:
            made[name] = tiny_runs.make_run(tmp_path_factory.mktemp("runs") / name, name)
        return made[name]

    return get


@pytest.fixture(scope="session")
def tiny_bundle() -> Callable[[str], Path]:
    """The committed bundles of the same runs: what is exported equals them (test_bundle.py)."""
    return FIXTURES.joinpath
