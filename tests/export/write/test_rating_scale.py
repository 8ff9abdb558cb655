"""The unit of the ratings changes nothing: multiplied by any number, they give the same lists."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from made_up import interactions

from export.model import reference
from export.model.dot import DotArrays
from export.model.similar_items import similar_rows
from export.verify.verify import verify
from export.write.bundle import export_run
from recsys.data.interactions import Interactions
from recsys.models.rating_unit import rating_unit
from recsys.training.checkpoint import Run
from recsys.training.run_info import Iteration
from recsys.training.session import SILENT
from recsys.training.settings import new_settings
from recsys.training.train import Machine, Reporter, resume, train
from serve.runtime.recommender import Recommender

CPU = Machine("cpu", "off")
GRADIENT = {"epochs": 3, "batch_size": 64}
RANKING = {"objective": "ranking"}
KINDS: dict[str, tuple[list[str], dict[str, Any]]] = {
    "dot": (["dot"], GRADIENT),
    "dot-bias": (["dot-bias"], GRADIENT),
    "mlp": (["mlp"], GRADIENT),
    "bayes": (["bayes"], {"iterations": 27}),
    "ease": (["ease"], {}),
    "ials": (["ials"], {}),
    "ranking dot": (["dot"], GRADIENT | RANKING),
    "parts": (["bayes", "ease", "ials:0.5"], {"rating_weight": 0.25, "iterations": 27}),
}
UNITS = (1e-5, 1e5)


def scaled(unit: float) -> Interactions:
    """Half stars from 0.5 to 5, times `unit`: 30 users, 25 items."""
    rng = np.random.default_rng(0)
    users, items = (axis + 1 for axis in np.nonzero(rng.random((30, 25)) < 0.5))
    tastes, traits = rng.normal(size=(31, 2)), rng.normal(size=(26, 2))
    stars = np.clip(np.round(2 * (3 + (tastes[users] * traits[items]).sum(1))) / 2, 0.5, 5)
    return interactions(users, items, stars * unit)


def trained(kind: str, unit: float, path: Path, reporter: Reporter = SILENT) -> Run:
    models, asked = KINDS[kind]
    settings = new_settings(models, {"factors": 4, **asked})
    return train(scaled(unit), settings, path, machine=CPU, reporter=reporter)


def scores_of(model: torch.nn.Module) -> np.ndarray:
    users, items = (torch.from_numpy(axis.ravel() + 1) for axis in np.indices((30, 25)))
    with torch.no_grad():
        return model(users, items).double().numpy().reshape(30, 25)


@pytest.mark.parametrize("kind", KINDS)
def test_scores_are_in_the_unit_of_the_ratings(kind: str, tmp_path: Path) -> None:
    """Up to the rounding of float32, which a random walk such as the one of `bayes` enlarges."""
    runs = {unit: trained(kind, unit, tmp_path / f"{unit}") for unit in (1.0, *UNITS)}
    expected, lists = (scores_of(model) for model in (runs[1.0].model(), runs[1.0].ranking_model()))
    predicts = runs[1.0].info.part.objective == "ratings"
    for unit in UNITS:
        found = scores_of(runs[unit].model()) / (unit if predicts else 1)
        assert np.abs(found - expected).max() <= 0.01 * np.ptp(expected), unit
        alone = predicts and len(runs[unit].parts) == 1
        found = scores_of(runs[unit].ranking_model()) / (unit if alone else 1)
        assert np.abs(found - lists).max() <= 0.01 * np.ptp(lists), unit
        rmse = runs[unit].info.part.metrics.get("rmse", 0.0) / unit
        assert rmse == pytest.approx(runs[1.0].info.part.metrics.get("rmse", 0.0), rel=0.01)


def answers(bundle: Path, user: int) -> list[list[int]]:
    """A known user's list, the neighbours of an item and a new user's list: item ids."""
    recommender = Recommender.load(bundle, "cpu")
    rankings = [recommender.recommend(user, 5), recommender.similar_items(3, 5)]
    if "fold_in" in recommender.manifest.graphs:
        low, high = recommender.manifest.data.ratings_range
        rankings.append(recommender.fold_in([3, 4], [high, low], 5))
    return [ranking.item_ids.tolist() for ranking in rankings]


def test_columns_of_other_sizes_with_the_same_products_make_the_same_neighbours() -> None:
    """As those of parts side by side are: the ratings' part has the unit of the ratings, the others none."""
    rng = np.random.default_rng(1)
    users, items = rng.normal(size=(9, 4)), rng.normal(size=(8, 4))
    sizes = np.array([1e-6, 1e6, 1, 1e5])

    def cosines(users: np.ndarray, items: np.ndarray) -> np.ndarray:
        tables = users.astype(np.float32), items.astype(np.float32)
        return reference.cosines(similar_rows(DotArrays(*tables, None, None, None)), np.arange(8))

    plain, uneven = cosines(users, items), cosines(users / sizes, items * sizes)
    assert np.abs(plain - uneven).max() <= 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_bundles_answer_as_before(kind: str, tmp_path: Path) -> None:
    expected = None
    for unit in (1.0, *UNITS):
        run = trained(kind, unit, tmp_path / f"run-{unit}")
        export_run(run.path, tmp_path / f"bundle-{unit}")
        assert verify(tmp_path / f"bundle-{unit}", run.path).passed
        found = [answers(tmp_path / f"bundle-{unit}", user) for user in (1, 7, 30)]
        expected = expected or found
        assert found == expected, unit


def test_a_resumed_training_ends_with_the_same_weights(tmp_path: Path) -> None:
    whole = trained("dot", 1e5, tmp_path / "whole")

    def stop(iteration: Iteration) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trained("dot", 1e5, tmp_path / "cut", Reporter(on_iteration=stop))
    assert resume(tmp_path / "cut", machine=CPU).info.files == whole.info.files


@pytest.mark.parametrize(
    ("ratings", "unit"),
    [
        ([1, 2, 3, 4, 5], 1),
        ([0, 0, 1], 1),
        ([-10, 10, 3], 1),
        ([3, 4, 5, 50_000], 1),
        ([0, 0.003, 0.005, 0.01], 1e-3),
        ([1e-5, 5e-5], 1e-5),
        ([1e5, 3e5, 5e5], 1e5),
        ([0, 0], 1),
    ],
)
def test_ratings_of_ordinary_size_are_trained_on_as_they_are(ratings: list[float], unit: float) -> None:
    assert rating_unit(np.array(ratings, np.float32)) == unit
