from __future__ import annotations

import made_up
import numpy as np
import pytest

from recsys.data.interactions import Interactions
from recsys.data.splits import Split, SplitRecipe, split
from recsys.errors import ConfigError
from recsys.evaluation import evaluate as module
from recsys.evaluation.evaluate import evaluate, ranked_users


def interactions(rng: np.random.Generator, n_users: int = 30, n_items: int = 20) -> Interactions:
    users, items = np.nonzero(rng.random((n_users, n_items)) < 0.4)
    ids = {"users": np.arange(n_users), "items": np.arange(n_items)}
    return made_up.interactions(users + 1, items + 1, rng.integers(1, 6, len(users)), **ids)


def test_an_oracle_is_perfect_and_a_training_item_is_never_asked_for(rng: np.random.Generator) -> None:
    data = interactions(rng)
    parts = split(data, SplitRecipe())
    pairs = zip(data.user_index, data.item_index, strict=True)
    truth = dict(zip(pairs, data.ratings, strict=True))  # every rating, held out or not
    seen = {(data.user_index[p], data.item_index[p]) for p in parts.train}

    def score(users: np.ndarray, items: np.ndarray) -> np.ndarray:
        return np.array([truth[pair] for pair in zip(users, items, strict=True)])

    def recommend(users: np.ndarray, exclude: np.ndarray, k: int) -> np.ndarray:
        lists = np.zeros((len(users), k), np.int64)
        for row, user in enumerate(users):
            excluded = {(user, item) for item in exclude[row] if item}
            assert excluded == {pair for pair in seen if pair[0] == user}
            rest = [item for u, item in truth if u == user and (u, item) not in excluded]
            lists[row, : len(rest)] = rest[:k]
        return lists

    result = evaluate(data, parts, score, recommend, k=10)
    assert (result["rmse"], result["mae"]) == (0, 0)
    assert (result["ndcg_at_k"], result["mrr_at_k"], result["hit_rate_at_k"]) == (1, 1, 1)
    assert result["n_held_out"] == len(parts.valid)
    assert result["n_ranked_users"] == len(np.unique(data.user_index[parts.valid]))
    trained = set(data.user_index[parts.train])
    new = [user for user in set(data.user_index[parts.valid]) if user not in trained]
    assert result["n_users_without_ratings"] == len(new)
    valid = data.ratings[parts.valid].astype(np.float64)
    mean = data.ratings[parts.train].astype(np.float64).mean()
    assert result["baselines"]["global_mean"]["rmse"] == pytest.approx(np.sqrt(np.mean((valid - mean) ** 2)))
    assert set(result["baselines"]) == {"global_mean", "bias_only", "popularity"}


def test_batches_do_not_change_the_result(rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    data = interactions(rng)
    table = rng.random((31, 21))

    def recommend(users: np.ndarray, exclude: np.ndarray, k: int) -> np.ndarray:
        scores = table[users]
        np.put_along_axis(scores, exclude, -1, axis=1)
        scores[:, 0] = -1
        return np.argsort(-scores, axis=1)[:, :k]

    parts = split(data, SplitRecipe())
    whole = evaluate(data, parts, lambda u, i: table[u, i], recommend, k=3)
    monkeypatch.setattr(module, "USERS_AT_ONCE", 7)
    assert evaluate(data, parts, lambda u, i: table[u, i], recommend, k=3) == whole


def test_what_cannot_be_measured_is_refused(rng: np.random.Generator) -> None:
    data = interactions(rng)
    everything = np.arange(len(data))
    nothing = Split(everything, everything[:0])
    assert evaluate(data, nothing, np.add, lambda u, e, k: e) == {"k": 10, "n_held_out": 0}
    with pytest.raises(ConfigError, match="k is 0"):
        evaluate(data, split(data, SplitRecipe()), np.add, lambda u, e, k: e, k=0)


def test_too_many_users_are_sampled_the_same_way_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_RANKED_USERS", 10)
    users = np.repeat(np.arange(1, 101), 3)
    chosen = ranked_users(users)
    assert len(chosen) == len(np.unique(chosen)) == 10
    assert chosen.tolist() == ranked_users(users).tolist() == sorted(chosen)
