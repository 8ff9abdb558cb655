"""Items added to bundles whose lists are ordered by parts that rank."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from made_up import interactions

from export.add_items.add_items import add_items
from export.write.bundle import export_run
from recsys.data.interactions import Interactions
from recsys.errors import ConfigError
from recsys.training.settings import new_settings
from recsys.training.train import Machine, train
from serve.bundle.bundle import open_bundle
from serve.runtime.recommender import Recommender

N_TASTES, N_USERS, N_ITEMS = 3, 90, 45
NEW = {9001 + taste: taste for taste in range(N_TASTES)}


def tastes() -> Interactions:
    """Users rate two thirds of the items of their own taste, the index modulo 3, and hardly any others."""
    rng = np.random.default_rng(5)
    users, items = (axis.ravel() + 1 for axis in np.indices((N_USERS, N_ITEMS)))
    own = users % N_TASTES == items % N_TASTES
    rated = rng.random(len(users)) < np.where(own, 0.65, 0.04)
    return interactions(
        users[rated],
        items[rated],
        np.where(own, 5.0, 2.0)[rated],
        users=pd.Series(10 * np.arange(1, N_USERS + 1)),
        items=pd.DataFrame({"item_id": 1000 + np.arange(1, N_ITEMS + 1)}),
        name="tastes",
    )


def new_ratings() -> Interactions:
    """Each new item is rated by the first 24 users of one taste."""
    rows = [
        (10 * user, item) for item, taste in NEW.items() for user in range(1, 73) if user % N_TASTES == taste
    ]
    users, user_index = np.unique([user for user, _ in rows], return_inverse=True)
    items, item_index = np.unique([item for _, item in rows], return_inverse=True)
    return interactions(
        user_index + 1,
        item_index + 1,
        np.full(len(rows), 5.0),
        users=pd.Series(users),
        items=pd.DataFrame({"item_id": items}),
        name="new",
    )


@pytest.fixture(
    scope="module",
    params=[
        ["ease", "ials:0.5"],
        *(pytest.param(parts, marks=pytest.mark.slow) for parts in (["dot-bias", "ease"], ["dot-bias:1"])),
    ],
    ids=["ease and ials", "dot-bias for ratings and ease", "dot-bias for ranking"],
)
def bundles(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A bundle, and the one with the new items."""
    folder = tmp_path_factory.mktemp("ranking")
    asked = {"factors": 6}
    if request.param == ["dot-bias:1"]:
        asked |= {"objective": "ranking", "epochs": 30, "learning_rate": 0.05, "batch_size": 64}
    train(tastes(), new_settings(request.param, asked), folder / "run", machine=Machine("cpu", "off"))
    export_run(folder / "run", folder / "bundle")
    add_items(folder / "bundle", new_ratings(), folder / "added")
    return folder / "bundle", folder / "added"


@pytest.mark.slow
def test_those_of_the_taste_find_the_new_item_and_the_others_do_not(bundles: tuple[Path, Path]) -> None:
    recommender = Recommender.load(bundles[1], "cpu")
    for user in range(73, N_USERS + 1):  # who have not rated them
        found = recommender.recommend(10 * user, N_ITEMS, exclude_seen=False).item_ids.tolist()
        places = {t: found.index(item_id) if item_id in found else N_ITEMS for item_id, t in NEW.items()}
        assert places[user % N_TASTES] < N_ITEMS // 2
        assert places[user % N_TASTES] == min(places.values())


def test_old_lists_stay_and_graphs_agree(bundles: tuple[Path, Path]) -> None:
    before, after = (Recommender.load(path, "cpu") for path in bundles)
    everyone = np.arange(N_USERS + 1)
    new = np.tile(np.arange(N_ITEMS + 1, N_ITEMS + 4), (len(everyone), 1))
    top, scores, *_ = before.rank(everyone, N_ITEMS)
    top_after, scores_after, *_ = after.rank(everyone, N_ITEMS, exclude_item_indices=list(new))
    np.testing.assert_array_equal(top, top_after)
    np.testing.assert_array_equal(scores, scores_after)
    manifest = open_bundle(bundles[1]).manifest
    assert manifest.parity.passed
    assert after.check() > 4
    (addition,) = manifest.additions
    assert set(addition.list_rows) == {
        part.kind for part in manifest.model.parts if part.objective == "ranking"
    }
    assert all(0 <= rows.error < 0.8 for rows in addition.list_rows.values())


def test_a_new_user_who_likes_a_new_item_gets_its_taste(bundles: tuple[Path, Path]) -> None:
    recommender = Recommender.load(bundles[1], "cpu")
    assert "fold_in" in recommender.manifest.graphs
    for item_id, taste in NEW.items():
        found = recommender.fold_in([item_id], [5.0], 5).item_indices
        assert np.mean([index % N_TASTES == taste for index in found if index <= N_ITEMS]) >= 0.6


def test_the_ridge_is_of_a_part_that_predicts_ratings(bundles: tuple[Path, Path], tmp_path: Path) -> None:
    if open_bundle(bundles[0]).manifest.model.scores == "ratings":
        return
    with pytest.raises(ConfigError, match="leave out --regularization"):
        add_items(bundles[0], new_ratings(), tmp_path / "out", regularization=1.0)
