"""The prior of a new user's list, chosen by held-out users, through a whole export of planted tastes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from made_up import interactions

from export.verify.verify import verify
from export.write.bundle import export_run
from recsys.training.settings import new_settings
from recsys.training.train import Machine, train
from serve import Recommender

N_USERS, N_ITEMS, N_TASTES = 120, 40, 4


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of two parts: each user has rated half of the items of one taste, and few others."""
    rng = np.random.default_rng(0)
    same = np.arange(N_USERS)[:, None] % N_TASTES == np.arange(N_ITEMS) % N_TASTES
    user, item = np.nonzero(rng.random((N_USERS, N_ITEMS)) < np.where(same, 0.7, 0.05))
    ratings = np.where(same[user, item], 5, 2) - rng.integers(0, 2, len(user))
    data = interactions(1 + user, 1 + item, ratings, users=np.arange(N_USERS), items=np.arange(N_ITEMS))
    folder = tmp_path_factory.mktemp("parts")
    asked = {"factors": 4, "iterations": 30}
    settings = new_settings(["bayes", "ease", "ials:0.5"], asked)
    train(data, settings, folder / "run", machine=Machine("cpu", "off"))
    export_run(folder / "run", folder / "bundle", top_k=20)
    return folder / "bundle"


def test_lists_of_new_users_never_lose_to_popularity(bundle: Path) -> None:
    found = Recommender.load(bundle).manifest.list_fold_in
    assert found is not None
    ndcgs = dict(found.held_out_ndcg)
    popularity = ndcgs.pop("popularity")
    assert set(ndcgs) == {"1", "3", "5", "10", "20", "all"}
    assert min(ndcgs.values()) > popularity
    assert found.methods == {"ease": "sum of input rows", "ials": "ridge"}


def test_a_single_rating_gives_the_items_of_its_taste(bundle: Path) -> None:
    recommender = Recommender.load(bundle)
    for item in range(N_TASTES):
        top = recommender.fold_in([item], [5.0], 5)
        assert set(top.item_ids % N_TASTES) == {item}


def test_the_bundle_agrees_with_the_run(bundle: Path) -> None:
    parity = verify(bundle, bundle.parent / "run")
    assert parity.passed
    assert {check.graph for check in parity.checks} >= {"score", "recommend", "similar_items", "fold_in"}
    manifest = Recommender.load(bundle).manifest
    assert (manifest.model.scores, manifest.model.lists) == ("ratings", "ranking")
    assert [(part.kind, part.weight) for part in manifest.model.parts] == [
        ("bayes", 0),
        ("ease", 1),
        ("ials", 0.5),
    ]
    outputs = {output.name for output in manifest.graphs["recommend"].outputs}
    assert outputs == {"top_item_indices", "top_scores", "top_ratings"}


def test_ratings_in_a_list_are_those_of_the_pairs(bundle: Path) -> None:
    recommender = Recommender.load(bundle)
    users = np.arange(1, 4)
    feeds = {"user_index": users, "exclude_item_indices": np.zeros((3, 1), np.int64)}
    found = recommender.run_graph("recommend", feeds)
    for user, items, ratings in zip(users, found["top_item_indices"], found["top_ratings"], strict=True):
        scores = recommender.score_indices(np.full(len(items), user), items)
        np.testing.assert_allclose(ratings, scores, atol=1e-4)


@pytest.mark.slow
def test_the_same_run_gives_the_same_bytes(bundle: Path, tmp_path: Path) -> None:
    export_run(bundle.parent / "run", tmp_path / "again", top_k=20)
    assert (tmp_path / "again" / "manifest.json").read_bytes() == (bundle / "manifest.json").read_bytes()
