"""Kinds that are fitted, not trained by gradient, through the run folder and back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from recsys.data.interactions import Interactions
from recsys.errors import CheckpointError, ConfigError, TrainingError
from recsys.models import KINDS, Kind
from recsys.models.modules import DotProduct
from recsys.training.checkpoint import load_run
from recsys.training.evaluate_run import evaluate_run
from recsys.training.settings import new_settings
from recsys.training.train import Machine, resume, train

CPU = Machine("cpu", "off")
OnIteration = Callable[[Mapping[str, float]], None]


@dataclass(frozen=True)
class SvdConfig:
    """Settings of a truncated SVD of the ratings."""

    n_factors: int = 2


def build(config: SvdConfig, n_users: int, n_items: int) -> nn.Module:
    return DotProduct(n_users, n_items, config.n_factors, biases="none")


def fit(
    ratings: Interactions,
    config: SvdConfig,
    *,
    seed: int,
    device: torch.device,
    on_progress: Callable[[int, int], None],
    on_iteration: OnIteration,
) -> dict[str, np.ndarray]:
    """A closed form: it reports no iteration."""
    dense = np.zeros((1 + ratings.n_users, 1 + ratings.n_items), np.float32)
    dense[ratings.user_index, ratings.item_index] = ratings.ratings
    users, values, items = np.linalg.svd(dense, full_matrices=False)
    n = config.n_factors
    return {"user_factors": users[:, :n] * values[:n], "item_factors": items[:n].T.copy()}


def fit_by_halves(
    ratings: Interactions,
    config: SvdConfig,
    *,
    seed: int,
    device: torch.device,
    on_progress: Callable[[int, int], None],
    on_iteration: OnIteration,
) -> dict[str, np.ndarray]:
    on_iteration({"objective": 2.0})
    on_iteration({"objective": 1.0})
    return fit(ratings, config, seed=seed, device=device, on_progress=on_progress, on_iteration=on_iteration)


AddKind = Callable[..., None]


@pytest.fixture
def add_kind(monkeypatch: pytest.MonkeyPatch) -> AddKind:
    """Add the kind "svd" with these options to the table of kinds, for one test."""

    def add(**options: Any) -> None:
        monkeypatch.setitem(KINDS, "svd", Kind("svd", SvdConfig, build, **{"fit": fit} | options))

    return add


RANKING = {"objectives": ("ranking",)}


def test_a_closed_form_goes_through_the_folder_and_back(
    checkerboard: Interactions, tmp_path: Path, add_kind: AddKind
) -> None:
    add_kind()
    made = train(checkerboard, new_settings("svd", {"factors": 3}), tmp_path / "run", machine=CPU)
    run = load_run(tmp_path / "run")
    (part,) = run.parts
    assert (part.info, part.config) == (made.info.part, SvdConfig(3))
    assert (part.info.training, part.info.optimizer) == (None, None)
    assert sorted(path.name for path in run.path.iterdir()) == sorted([*run.info.files, "run.json"])
    sides, factors = run.split(), part.model().get_parameter("item_factors").detach().numpy()
    train_items = np.unique(checkerboard.item_index[sides.train])
    ratings = np.zeros((1 + checkerboard.n_users, 1 + checkerboard.n_items), np.float32)
    positions = checkerboard.user_index[sides.train], checkerboard.item_index[sides.train]
    ratings[positions] = checkerboard.ratings[sides.train]
    np.testing.assert_allclose(
        np.abs(factors[train_items]), np.abs(np.linalg.svd(ratings)[2][:3].T[train_items]), atol=1e-4
    )
    # Items without a training rating, and the unknown item, are the average item.
    average = factors[train_items].mean(axis=0)
    np.testing.assert_allclose(factors[[0, -1]], [average, average], atol=1e-6)
    (iteration,) = part.info.history
    assert set(iteration.metrics) == {"valid_rmse", "valid_mae"}
    assert evaluate_run(run, device="cpu")["rmse"] == pytest.approx(run.info.metrics["rmse"], rel=1e-6)


def test_iterations_are_kept_with_their_metrics(
    checkerboard: Interactions, tmp_path: Path, add_kind: AddKind
) -> None:
    add_kind(fit=fit_by_halves, **RANKING)
    run = train(checkerboard, new_settings("svd", {}), tmp_path / "run", machine=CPU)
    history = [(iteration.number, iteration.metrics) for iteration in run.info.part.history]
    assert history == [(1, {"objective": 2.0}), (2, {"objective": 1.0})]
    result = evaluate_run(load_run(run.path), device="cpu")
    assert "rmse" not in result  # its scores are not ratings
    assert 0 <= result["ndcg_at_k"] <= 1


def test_several_parts_share_a_run(checkerboard: Interactions, tmp_path: Path, add_kind: AddKind) -> None:
    add_kind(**RANKING)
    asked = {"factors": 4, "epochs": 2, "batch_size": 32}
    train(checkerboard, new_settings(["svd:0.5", "dot-bias"], asked), tmp_path / "both", machine=CPU)
    run = load_run(tmp_path / "both")
    assert [(part.info.kind, part.info.weight, part.info.objective) for part in run.parts] == [
        ("svd", 0.5, "ranking"),
        ("dot-bias", 1.0, "ratings"),
    ]
    assert run.part is run.parts[1], "the part that predicts ratings"
    alone = train(checkerboard, new_settings("dot-bias", asked), tmp_path / "alone", machine=CPU)
    assert run.info.metrics == alone.info.metrics
    state = alone.model().state_dict()
    assert all((value == state[name]).all() for name, value in run.model().state_dict().items())


def test_a_part_that_was_interrupted_is_fitted_again(
    checkerboard: Interactions, tmp_path: Path, add_kind: AddKind
) -> None:
    def interrupt(*arguments: object, **options: object) -> dict[str, np.ndarray]:
        raise KeyboardInterrupt

    add_kind(fit=interrupt, **RANKING)
    settings = new_settings(["dot", "svd"], {"epochs": 1})
    with pytest.raises(KeyboardInterrupt):
        train(checkerboard, settings, tmp_path / "run", machine=CPU)
    unfinished = load_run(tmp_path / "run")
    assert [part.info.iterations_done for part in unfinished.parts] == [1, 0]
    with pytest.raises(CheckpointError, match="part svd is not trained yet: continue with --resume"):
        unfinished.parts[1].model()
    add_kind(**RANKING)
    resumed = resume(tmp_path / "run", machine=CPU)
    assert resumed.info.files == train(checkerboard, settings, tmp_path / "whole", machine=CPU).info.files


def test_wrong_settings_and_tables_are_refused(
    checkerboard: Interactions, tmp_path: Path, add_kind: AddKind
) -> None:
    def diverge(*arguments: Any, **options: Any) -> dict[str, np.ndarray]:
        return {name: table * np.nan for name, table in fit(*arguments, **options).items()}

    add_kind(fit=diverge)
    with pytest.raises(ConfigError, match="svd and dot both predict ratings"):
        new_settings(["svd", "dot"], {})
    with pytest.raises(TrainingError, match="is not finite"):
        train(checkerboard, new_settings("svd", {}), tmp_path / "run", machine=CPU)
    assert not list(tmp_path.iterdir()), "no incomplete run is left"
    add_kind(**RANKING)
    with pytest.raises(ConfigError, match="a svd or dot model has no --dropout"):
        new_settings(["svd", "dot"], {"dropout": 0.1})
    with pytest.raises(ConfigError, match="a svd model has no --epochs"):
        new_settings("svd", {"epochs": 3})
    for weight in ("0", "-1", "nan", "", "x"):
        with pytest.raises(ConfigError, match="the weight must be a number above 0"):
            new_settings(f"svd:{weight}", {})
