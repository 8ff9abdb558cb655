"""Bundles of splits by user: users held out whole are folded in, and measured by their other ratings."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from export.verify.evaluate_bundle import measure
from export.write.bundle import export_run
from export.write.run_inputs import load_run_inputs
from recsys.cli import cli
from recsys.data import load
from recsys.data.splits import Split, choosing_users, give_share
from recsys.training.checkpoint import Run
from recsys.training.settings import new_settings
from recsys.training.train import Machine, train
from serve.runtime.recommender import Recommender

N_USERS, N_ITEMS, K, SHARE = 60, 40, 5, 0.6


@pytest.fixture(scope="module")
def ratings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rng = np.random.default_rng(1)
    path = tmp_path_factory.mktemp("data") / "films.csv"
    users, items = np.nonzero(rng.random((N_USERS, N_ITEMS)) < 0.3)
    scores = np.clip(np.round(3 + rng.normal(0, 1, N_USERS)[users] + rng.normal(0, 1, N_ITEMS)[items]), 1, 5)
    rows = [f"{u},film-{i},{r:g}" for u, i, r in zip(users, items, scores, strict=True)]
    path.write_text("\n".join(["user_id,item_id,rating", *rows]) + "\n")
    return path


@pytest.fixture(
    scope="module",
    params=[
        ["dot-bias", "ease"],
        *(pytest.param([kind], marks=pytest.mark.slow) for kind in ("dot-bias", "mlp")),
    ],
)
def trained(
    request: pytest.FixtureRequest, ratings: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Run, Path]:
    """A run, and its bundle, whose lists hold every item."""
    folder = tmp_path_factory.mktemp("trained")
    options: dict[str, Any] = {"kind": "by-user", "valid_fraction": 0.25}
    if request.param != ["ease"]:
        options |= {"epochs": 3, "batch_size": 64, "factors": 6}
    run = train(load(str(ratings)), new_settings(request.param, options), folder / "run", machine=CPU)
    export_run(folder / "run", folder / "bundle")
    return run, folder / "bundle"


CPU = Machine("cpu", "off")


def evaluate(bundle: Path, ratings: Path, *arguments: object) -> Any:
    options = ["--device", "cpu", "--json", "-k", K, "--data", ratings, *arguments]
    return CliRunner().invoke(cli, ["evaluate", str(bundle), *map(str, options)])


def test_each_new_user_is_folded_in_alone(trained: tuple[Run, Path], ratings: Path) -> None:
    run, bundle = trained
    recommender = Recommender.load(bundle, "cpu")
    assert "fold_in" in recommender.manifest.graphs
    data = run.interactions()
    sides = run.split()
    choosing = np.isin(data.user_index, choosing_users(data.user_index[sides.valid]))
    given = give_share(data, Split(sides.train, sides.valid[~choosing[sides.valid]]), SHARE)
    new_users = np.unique(data.user_index[given.valid])
    assert not set(new_users) & set(data.user_index[sides.train])
    errors, ndcgs = [], []
    for user in new_users.tolist():
        known, rest = (side[data.user_index[side] == user] for side in (given.train, given.valid))
        feeds = {
            "item_indices": data.item_index[known][None].astype(np.int64),
            "ratings": data.ratings[known][None],
        }
        # The list holds all items, and so the predicted rating of each.
        top = recommender.run_graph("fold_in", feeds)
        places = [top["top_item_indices"][0].tolist().index(item) for item in data.item_index[rest]]
        predicted = top.get("top_ratings", top["top_scores"])[0, places]
        errors += (predicted.astype(np.float64) - data.ratings[rest]).tolist()
        gain = sum(1 / np.log2(place + 2) for place in places if place < K)
        ndcgs.append(gain / sum(1 / np.log2(place + 2) for place in range(min(K, len(rest)))))
    result = json.loads(evaluate(bundle, ratings, "--given-share", SHARE).output)
    assert result["new_users"] == {"n_users": len(new_users), "given_share": SHARE}
    assert result["n_held_out"] == len(given.valid)
    assert result["ndcg_at_k"] == pytest.approx(np.mean(ndcgs))
    fold_in = recommender.manifest.fold_in
    if fold_in is not None and fold_in.method == "ridge":
        # Both round to float32, in another order.
        assert result["rmse"] == pytest.approx(np.sqrt(np.mean(np.square(errors))), abs=1e-5)
    else:
        assert "rmse" not in result


def test_the_manifest_has_the_same_figures(trained: tuple[Run, Path], ratings: Path) -> None:
    run, bundle = trained
    recommender = Recommender.load(bundle, "cpu")
    found = measure(recommender, run.interactions(), run.split())
    assert (
        recommender.manifest.metrics.items()
        >= {
            name: pytest.approx(value, abs=1e-5) if isinstance(value, float) else value
            for name, value in found.items()
            if name != "baselines"
        }.items()
    )
    assert ("new_users" in found) == ("fold_in" in recommender.manifest.graphs)


def test_the_users_who_measure_the_fold_in_choose_nothing_of_it(trained: tuple[Run, Path]) -> None:
    loaded = load_run_inputs(trained[0].path)
    data = loaded.interactions
    choosing = choosing_users(data.user_index[loaded.held_out])
    measured = loaded.held_out & ~np.isin(data.user_index, choosing)
    changed = data.ratings.copy()
    changed[measured] = 6 - changed[measured]
    other = replace(loaded, interactions=replace(data, ratings=changed))
    inputs, same = (run.inputs(N_ITEMS, raw_ids=False) for run in (loaded, other))
    assert (inputs.fold_in, inputs.list_fold_in) == (same.fold_in, same.list_fold_in)
    assert len(inputs.sample.histories) == len(choosing) == 5


def test_the_words_say_who_was_measured(trained: tuple[Run, Path], ratings: Path) -> None:
    options = ["--device", "cpu", "--data", str(ratings)]
    output = CliRunner().invoke(cli, ["evaluate", str(trained[1]), *options]).stdout
    if "fold_in" in Recommender.load(trained[1], "cpu").manifest.graphs:
        assert "Users who were held out whole: 10. Each is folded in from 80% of the own ratings" in output
        assert output.splitlines()[-1].startswith("For new users, the model ")
    else:
        assert "Users without a rating in the training: 15." in output
        assert output.splitlines()[-1].startswith("The model ")
    output = CliRunner().invoke(cli, ["evaluate", str(trained[0].path), "--device", "cpu"]).output
    assert "Users without a rating in the training: 15." in output
