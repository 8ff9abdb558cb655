"""The ridge of fold-in is chosen by held-out ratings, its steps by the solver's answer."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest

from export.graphs.fold_in import FACTOR_TOLERANCE, fold_in_graph
from export.model.dot import DotArrays
from export.model.inputs import FoldInHistory, Ratings
from export.verify.verify import build_graphs
from export.write.bundle import export_run
from export.write.fold_in_choice import REGULARIZATIONS, choose_fold_in, max_row_error, sample_histories
from export.write.run_inputs import load_run_inputs
from recsys.data import load
from recsys.training.settings import new_settings
from recsys.training.train import Machine, train


def make_users(rng: np.random.Generator, noise: float):
    """Users whose ratings are made by known factors, with noise: 60 users, 40 items, 3 factors."""
    item_factors = rng.normal(size=(41, 3)).astype(np.float32)
    users = rng.normal(size=(60, 3))
    user_index, item_index = (axis.ravel() + 1 for axis in np.indices((60, 40)))
    ratings = np.sum(users[user_index - 1] * item_factors[item_index], axis=1)
    ratings = (ratings + rng.normal(0, noise, len(ratings))).astype(np.float32)
    held_out = rng.random(len(ratings)) < 0.8
    arrays = DotArrays(np.zeros((61, 3), np.float32), item_factors, None, None, None)
    return arrays, sample_histories(user_index, item_index, ratings, held_out, rng)


def test_exact_ratings_want_no_ridge_and_noisy_ones_do(rng) -> None:
    exact = choose_fold_in(*make_users(rng, noise=0.0), (1.0, 5.0))
    noisy = choose_fold_in(*make_users(rng, noise=3.0), (1.0, 5.0))
    assert exact.regularization == REGULARIZATIONS[0]
    assert noisy.regularization > 1.0
    assert noisy.n_held_out_users == 60
    assert exact.held_out_rmse is not None
    assert exact.held_out_rmse < 0.2


@pytest.mark.parametrize(("scale", "biased"), [(1e-5, True), (1e5, False)])
def test_ratings_in_other_units_give_the_same_lists(rng, run_model, scale: float, biased: bool) -> None:
    """A model of ratings in other units: the user and the item factors each take the root of the scale."""
    arrays, histories = make_users(rng, noise=1.0)
    if biased:
        biases = [rng.normal(size=(n, 1)).astype(np.float32) for n in (61, 41)]
        arrays = replace(arrays, user_biases=biases[0], item_biases=biases[1])
    half = np.float32(np.sqrt(scale))
    scaled = DotArrays(
        arrays.user_factors * half,
        arrays.item_factors * half,
        *(
            None if biases is None else biases * np.float32(scale)
            for biases in (arrays.user_biases, arrays.item_biases)
        ),
        None,
    )
    in_other_units = [
        FoldInHistory(*(Ratings(side.item_indices, side.ratings * np.float32(scale)) for side in history))
        for history in histories
    ]
    choices = [choose_fold_in(arrays, histories, (1.0, 5.0))]
    choices.append(choose_fold_in(scaled, in_other_units, (scale, 5 * scale)))
    assert choices[0].regularization == choices[1].regularization
    models = [fold_in_graph(*made) for made in ((arrays, 10, choices[0]), (scaled, 10, choices[1]))]
    for one, other in zip(histories[:20], in_other_units, strict=False):
        lists = [
            run_model(model, {"item_indices": known.item_indices[None], "ratings": known.ratings[None]})[
                "top_item_indices"
            ]
            for model, known in zip(models, (one.known, other.known), strict=True)
        ]
        np.testing.assert_array_equal(*lists)


@pytest.mark.slow
def test_a_fold_in_that_can_not_be_solved_is_left_out_with_the_reason(tiny_run) -> None:
    loaded = load_run_inputs(tiny_run("dot"))
    before = loaded.arrays
    beyond_float32 = replace(
        before,
        user_factors=before.user_factors * np.float32(1e3),
        item_factors=before.item_factors * np.float32(1e37),
    )
    inputs = replace(loaded, arrays=beyond_float32).inputs(5, raw_ids=False)
    assert inputs.fold_in is None
    assert "conjugate-gradient steps" in inputs.left_out["fold_in"]
    assert "fold_in" not in build_graphs(inputs)


def test_the_steps_reach_the_tolerance(rng) -> None:
    arrays, histories = make_users(rng, noise=1.0)
    choice = choose_fold_in(arrays, histories, (1.0, 5.0))
    assert max_row_error(arrays, histories, choice) <= FACTOR_TOLERANCE
    assert max_row_error(arrays, histories, msgspec.structs.replace(choice, steps=1)) > FACTOR_TOLERANCE


def test_a_split_by_user_folds_in_truly_new_users(rng) -> None:
    user_index = np.repeat([1, 2, 3], 10)
    item_index = np.tile(np.arange(1, 11), 3)
    held_out = user_index == 2
    (history,) = sample_histories(user_index, item_index, np.ones(30, np.float32), held_out, rng)
    known, held_out = history.known.item_indices, history.held_out.item_indices
    assert len(known) == len(held_out) == 5
    assert {*known, *held_out} == set(range(1, 11))


def test_without_held_out_ratings_there_is_a_default(rng) -> None:
    arrays, _ = make_users(rng, noise=1.0)
    choice = choose_fold_in(arrays, [], (1.0, 5.0))
    assert (choice.held_out_rmse, choice.n_held_out_users) == (None, 0)


def test_where_no_user_can_be_judged_fold_in_is_compared_all_the_same(tmp_path: Path) -> None:
    """Users of one rating each have no history beside what is held out."""
    rows = [f"{user},{user % 7},{1 + user % 5}" for user in range(40)]
    (tmp_path / "few.csv").write_text("\n".join(["user_id,item_id,rating", *rows]) + "\n")
    settings = new_settings("dot-bias", {"epochs": 1, "factors": 3})
    train(load(tmp_path / "few.csv"), settings, tmp_path / "run", machine=Machine("cpu", "off"))
    manifest = export_run(tmp_path / "run", tmp_path / "bundle")
    assert manifest.fold_in is not None
    assert (manifest.fold_in.held_out_rmse, manifest.fold_in.n_held_out_users) == (None, 0)
    checks = {check.provider: check for check in manifest.parity.checks if check.graph == "fold_in"}
    assert checks["cpu"].n == 20
    assert checks["cpu"].passed
    assert checks["onnx.reference"].n == 8
