"""Bundles of runs of several parts, and of runs on likes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tiny_runs
from click.testing import CliRunner

from export.verify.verify import verify
from export.write.bundle import export_run
from recsys.cli import cli
from recsys.errors import ConfigError
from recsys.training.settings import new_settings
from recsys.training.train import Machine, train
from serve.bundle.manifest import read_manifest
from serve.runtime.recommender import Recommender

CPU = Machine("cpu", "off")


@pytest.fixture(scope="module")
def parts_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """bayes, ease and half of ials, with a rating weight of 0.25."""
    path = tmp_path_factory.mktemp("runs") / "parts"
    settings = new_settings(
        ["bayes", "ease", "ials:0.5"], {"iterations": 30, "factors": 4, "rating_weight": 0.25}
    )
    train(tiny_runs.interactions(), settings, path, machine=CPU)
    return path


@pytest.mark.slow
def test_the_rating_weight_is_the_runs_unless_export_is_told_another(parts_run: Path, tmp_path: Path) -> None:
    assert [part.weight for part in export_run(parts_run, tmp_path / "own").model.parts] == [0.25, 1, 0.5]
    arguments = [str(parts_run), "--output", str(tmp_path / "heavy"), "--rating-weight", "2"]
    done = CliRunner().invoke(cli, ["export", *arguments], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert [part.weight for part in read_manifest(tmp_path / "heavy").model.parts] == [2, 1, 0.5]
    assert verify(tmp_path / "heavy", parts_run).passed, "with the bundle's weight, not the run's"
    lists = [Recommender.load(tmp_path / name, "cpu").recommend(10, top_k=20) for name in ("own", "heavy")]
    assert not np.array_equal(lists[0].scores, lists[1].scores)
    same = export_run(parts_run, tmp_path / "same", rating_weight=0.25)
    assert same.files == read_manifest(tmp_path / "own").files


def test_a_rating_weight_needs_both_kinds_of_part(tmp_path: Path) -> None:
    train(tiny_runs.interactions(), new_settings("ease", {"factors": 4}), tmp_path / "run", machine=CPU)
    with pytest.raises(ConfigError, match="here is only ease: leave --rating-weight out"):
        export_run(tmp_path / "run", tmp_path / "bundle", rating_weight=0.5)
    assert not (tmp_path / "bundle").exists()


@pytest.mark.slow
def test_where_nothing_is_held_out_no_figure_says_so(tmp_path: Path) -> None:
    """Ratings of the training may choose the settings of fold-in; they measure nothing."""
    asked = {"valid_fraction": 0.0, "factors": 4, "iterations": 30, "epochs": 2, "objective": "ranking"}
    settings = new_settings(["bayes", "ease", "dot"], asked)
    train(tiny_runs.interactions(), settings, tmp_path / "run", machine=CPU)
    manifest = export_run(tmp_path / "run", tmp_path / "bundle")
    assert manifest.fold_in is not None
    assert (manifest.fold_in.held_out_rmse, manifest.fold_in.n_held_out_users) == (None, 0)
    assert manifest.list_fold_in is not None
    assert (manifest.list_fold_in.held_out_ndcg, manifest.list_fold_in.n_held_out_users) == ({}, 0)
    assert all(ridge.held_out_ndcg is None for ridge in manifest.list_fold_in.ridges.values())
    assert manifest.similar_items.held_out_cosine is None
    assert manifest.held_out is None
    assert verify(tmp_path / "bundle", tmp_path / "run").passed
    train(
        tiny_runs.interactions(), new_settings("mlp", {"valid_fraction": 0.0}), tmp_path / "mlp", machine=CPU
    )
    assert "fold_in" in export_run(tmp_path / "mlp", tmp_path / "network").left_out


@pytest.mark.parametrize("rating", [1.0, pytest.param(3.0, marks=pytest.mark.slow)])
def test_likes_are_exported_and_verified(tmp_path: Path, rating: float) -> None:
    data = tiny_runs.interactions()
    data = replace(
        data,
        ratings=np.full(len(data), rating, np.float32),
        users=data.users.assign(city=pd.Series(["Rome", "Oslo"] * 15, dtype="str")),
    )
    train(data, new_settings(["ease", "ials"], {"factors": 4}), tmp_path / "run", machine=CPU)
    manifest = export_run(tmp_path / "run", tmp_path / "bundle")
    assert manifest.left_out == {}
    assert (manifest.model.scores, manifest.data.implicit) == ("ranking", True)
    assert manifest.data.user_features == ["city"]
    assert manifest.data.item_features == ["genres", "year", "price"]
    assert verify(tmp_path / "bundle", tmp_path / "run").passed
    recommender = Recommender.load(tmp_path / "bundle", "cpu")
    recommender.check()
    assert len(recommender.recommend(10, top_k=5).item_ids) == 5
