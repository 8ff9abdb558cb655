"""A run through torch and its bundle through onnxruntime must measure the same."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from export.verify.evaluate_bundle import check_data
from export.verify.verify import verify
from export.write.bundle import export_run
from recsys.cli import cli, main
from recsys.data import load
from recsys.errors import ConfigError, DataError
from recsys.models import KINDS
from recsys.training.checkpoint import load_run
from recsys.training.settings import new_settings
from recsys.training.train import Machine, train
from serve.runtime.recommender import Recommender

K = 5


@pytest.fixture(scope="module")
def ratings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rng = np.random.default_rng(1)
    path = tmp_path_factory.mktemp("data") / "films.csv"
    users, items = np.nonzero(rng.random((60, 80)) < 0.3)
    scores = np.clip(np.round(3 + rng.normal(0, 1, 60)[users] + rng.normal(0, 1, 80)[items]), 1, 5)
    rows = [f"{u},film-{i},{r:g}" for u, i, r in zip(users, items, scores, strict=True)]
    path.write_text("\n".join(["user_id,item_id,rating", *rows]) + "\n")
    return path


QUICK = ("dot-bias", "ease", "mlp")


@pytest.fixture(
    scope="module",
    params=[pytest.param(kind, marks=[] if kind in QUICK else pytest.mark.slow) for kind in sorted(KINDS)],
)
def pair(
    request: pytest.FixtureRequest, ratings: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Path]:
    """A run and its bundle."""
    folder = tmp_path_factory.mktemp(request.param)
    asked = {"epochs": 3, "batch_size": 64, "factors": 6, "iterations": 30}
    known = {field.name for field in fields(KINDS[request.param].config)} | {"factors"}
    if KINDS[request.param].fit is None:
        known |= {"epochs", "batch_size"}
    settings = new_settings(request.param, {name: asked[name] for name in asked.keys() & known})
    train(load(str(ratings)), settings, folder / "run", machine=Machine("cpu", "off"))
    export_run(folder / "run", folder / "bundle", top_k=20)
    return folder / "run", folder / "bundle"


def evaluate(*arguments: object) -> Result:
    return CliRunner().invoke(cli, ["evaluate", "--device", "cpu", *map(str, arguments)])


def measured(*arguments: object) -> dict[str, Any]:
    result = evaluate("--json", "-k", K, *arguments)
    assert result.exit_code == 0, (result.output, result.exception)
    return json.loads(result.output)  # type: ignore[no-any-return]


@pytest.mark.slow
def test_the_same_file_read_otherwise_is_other_data(pair: tuple[Path, Path], ratings: Path) -> None:
    data, recommender = load(str(ratings)), Recommender.load(pair[1], "cpu")
    check_data(recommender, data)
    with pytest.raises(DataError, match="other ratings than the bundle was trained on"):
        check_data(recommender, replace(data, ratings=data.ratings[::-1].copy()))
    with pytest.raises(DataError, match="other timestamps than the bundle was trained on"):
        check_data(recommender, replace(data, timestamps=np.arange(len(data))))


def test_a_bundle_measures_as_its_run(pair: tuple[Path, Path], ratings: Path) -> None:
    run, bundle = pair
    through_torch, through_onnx = measured(run), measured(bundle, "--data", ratings)
    assert set(through_torch) == {
        *(("rmse", "mae") if "rmse" in through_torch else ()),
        *("ndcg_at_k", "recall_at_k", "precision_at_k", "mrr_at_k", "hit_rate_at_k"),
        *("coverage_at_k", "popularity_at_k"),
        *("k", "n_held_out", "n_ranked_users", "n_users_without_ratings", "baselines", "summary"),
    }
    # Scores differ by float32 rounding (1e-6), which may swap neighbours with nearly equal ones in a list.
    for name in {"rmse", "mae"} & through_torch.keys():
        assert through_onnx[name] == pytest.approx(through_torch[name], abs=1e-5)
    for name in ("ndcg_at_k", "recall_at_k", "precision_at_k", "mrr_at_k", "hit_rate_at_k"):
        assert through_onnx[name] == pytest.approx(through_torch[name], abs=0.01)
    for name in ("k", "n_held_out", "n_ranked_users", "baselines"):
        assert through_onnx[name] == through_torch[name]
    assert through_torch["baselines"]["global_mean"]["rmse"] > through_torch["baselines"]["bias_only"]["rmse"]


@pytest.mark.parametrize("pair", ["dot-bias", "ease"], indirect=True)
def test_a_bundle_is_measured_without_torch(pair: tuple[Path, Path], ratings: Path) -> None:
    """In a process of its own, where an attempt to import torch, onnx or safetensors would fail."""
    code = (
        "import sys\n"
        "for name in ('torch', 'onnx', 'onnx_ir', 'onnxscript', 'safetensors'): sys.modules[name] = None\n"
        "from recsys.cli import main\n"
        "main(sys.argv[1:])\n"
    )
    arguments = ["evaluate", str(pair[1]), "--data", str(ratings), "--json", "-k", str(K)]
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == measured(pair[1], "--data", ratings)


def test_the_table_shows_the_baselines_beside_the_model(pair: tuple[Path, Path]) -> None:
    result = evaluate(pair[0], "-k", 3)
    lines = result.stdout.splitlines()
    headers = "RMSE MAE nDCG@3 recall@3 precision@3 MRR@3 hit rate@3 coverage@3 popularity@3"
    assert " ".join(lines[0].split()) == headers
    rows = [line.split("  ")[0] for line in lines[1:5]]
    assert rows == ["the model", "global mean", "bias only", "popularity"]
    assert re.fullmatch(r"The model ranks .* popularity(, and predicts ratings .* biases)?\.", lines[-1])


@pytest.mark.slow
def test_a_model_of_all_ratings_is_exported_and_measured_by_nothing(ratings: Path, tmp_path: Path) -> None:
    run, bundle = tmp_path / "run", tmp_path / "bundle"
    options = ["--model", "dot-bias", "--model", "ease", "--epochs", 1, "--valid-fraction", 0]
    arguments = map(str, ["train", "--device", "cpu", "--data", ratings, "--output", run, *options])
    result = CliRunner().invoke(cli, [*arguments])
    assert result.exit_code == 0, (result.output, result.exception)
    n = len(load(str(ratings)))
    assert f"{n:,} ratings to train on, none held out" in result.output
    assert result.stdout.splitlines()[-1].endswith("run: none held out")
    manifest = export_run(run, bundle)
    assert manifest.parity.passed
    assert verify(bundle, run).passed
    assert manifest.held_out is None
    expected = {
        "k": 10,
        "n_held_out": 0,
        "summary": "Nothing was held out of the training, so nothing is measured.",
    }
    assert manifest.metrics == expected
    assert measured(run) == measured(bundle, "--data", ratings) == expected | {"k": K}
    assert evaluate(run).stdout == expected["summary"] + "\n"


@pytest.mark.slow
def test_held_out_ratings_may_be_in_a_file_of_their_own(ratings: Path, tmp_path: Path) -> None:
    run, bundle, mine = tmp_path / "run", tmp_path / "bundle", tmp_path / "mine.csv"
    header, *rows = ratings.read_text().splitlines()
    unknown = "999,film-0,3"
    mine.write_text("\n".join([header, *rows[::5], unknown]) + "\n")  # of the data: not to be trained on
    options = ["--data", ratings, "--valid-data", mine, "--output", run, "--model", "dot-bias", "--epochs", 1]
    train_it = ["train", "--device", "cpu", *map(str, options)]
    result = CliRunner().invoke(cli, train_it)
    assert result.exit_code == 0, (result.output, result.exception)
    info = load_run(run).info
    assert (info.data.n_ratings, info.data.n_held_out) == (len(rows), len(rows[::5]))
    assert info.split.kind == "valid-data"
    export_run(run, bundle)
    through_torch = measured(run)
    through_onnx = measured(bundle, "--data", ratings, "--valid-data", mine)
    assert through_onnx["rmse"] == pytest.approx(through_torch["rmse"], abs=1e-5)
    assert through_onnx["baselines"] == through_torch["baselines"]
    assert CliRunner().invoke(cli, [*train_it, "--resume"]).exit_code == 0
    other = tmp_path / "other.csv"
    other.write_text("\n".join([header, *rows[::5]]) + "\n")
    result = evaluate(bundle, "--data", ratings, "--valid-data", other)
    assert isinstance(result.exception, DataError)
    assert "not the file that was held out" in str(result.exception)
    result = evaluate(bundle, "--data", ratings)
    assert result.exit_code == 2
    assert "name that file again" in result.output
    result = CliRunner().invoke(
        cli, [str(other) if part == str(mine) else part for part in train_it] + ["--resume"]
    )
    assert isinstance(result.exception, ConfigError)
    assert "the run has valid data" in str(result.exception)


def test_other_data_and_what_does_not_fit_are_refused(
    pair: tuple[Path, Path], ratings: Path, tmp_path: Path
) -> None:
    run, bundle = pair
    other = tmp_path / "films.csv"
    other.write_text(ratings.read_text() + "999,film-0,3\n")
    result = evaluate(bundle, "--data", other)
    assert isinstance(result.exception, DataError)
    assert "not the same" in str(result.exception)
    result = evaluate(bundle)
    assert result.exit_code == 2
    assert "name it with --data" in result.output
    result = evaluate(run, "--data", ratings)
    assert result.exit_code == 2
    assert "leave out --data" in result.output
    result = evaluate(bundle, "--data", ratings, "--given-share", 0.5)
    assert result.exit_code == 2
    assert "goes with a split by user, and this bundle's is random" in result.output
    result = evaluate(bundle, "--data", ratings, "--valid-data", ratings)
    assert isinstance(result.exception, ConfigError)
    assert "--valid-data goes with 'valid-data' alone" in str(result.exception)
    result = evaluate(bundle, "--data", ratings, "-k", 21)
    assert isinstance(result.exception, ConfigError)
    assert "ranks 20 items at most" in str(result.exception)
    assert evaluate(run, "-k", 0).exit_code == 2
    assert evaluate(tmp_path / "nowhere").exit_code == 2


@pytest.mark.parametrize("command", ["evaluate", "export", "verify", "add-items"])
def test_a_path_that_is_not_there_is_wrong_usage(command: str, tmp_path: Path) -> None:
    """And so is what is there, and is something else."""
    more = {
        "export": ["--output", str(tmp_path / "out")],
        "verify": ["--run", str(tmp_path)],
        "add-items": ["--ratings", "ml-latest-small", "--output", str(tmp_path / "out")],
    }
    for path in (tmp_path / "nowhere", tmp_path):
        with pytest.raises(SystemExit) as stop:
            main([command, str(path), *more.get(command, [])])
        assert stop.value.code == 2
