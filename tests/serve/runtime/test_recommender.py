"""The contract that every bundle keeps, against brute force in float64 over the tables in its files."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from serve.errors import UnknownIdError, UnsupportedError
from serve.runtime.rankings import Ranking
from serve.runtime.recommender import Recommender

from ..conftest import all_users

# Float32 sums of a few dozen terms against float64, on scores of up to 6: 1e-5 is ten times what was seen.
TOLERANCE = 1e-5
NO_SCORE = np.float32(-1e30)


@pytest.fixture
def truth(served: Recommender) -> np.ndarray:
    """Every score, float64 [n_users + 1, n_items + 1], row and column 0 for unknown."""
    return brute_force(served)


@pytest.fixture
def listed(served: Recommender, truth: np.ndarray) -> np.ndarray:
    """Every score that orders the lists, likewise."""
    return brute_force(served, "ranking_") if "ranking_user_factors" in names(served) else truth


def names(served: Recommender) -> set[str]:
    return {t.name for t in served.manifest.tables}


def table(served: Recommender, name: str) -> np.ndarray:
    return served.bundle.table(name).astype(np.float64)


def on_scale(served: Recommender, ratings: np.ndarray) -> np.ndarray:
    return np.clip(ratings, *served.manifest.data.ratings_range)


def brute_force(served: Recommender, prefix: str = "") -> np.ndarray:
    users, items = (table(served, f"{prefix}{name}") for name in ("user_factors", "item_factors"))
    logits = mlp(served, users, items) if served.manifest.model.kind == "mlp" else users @ items.T
    if f"{prefix}item_biases" in names(served):
        logits = logits + table(served, f"{prefix}item_biases").T
    if f"{prefix}user_biases" in names(served):
        logits = logits + table(served, f"{prefix}user_biases")
    return logits if prefix else to_range(logits, served.manifest.model.score_range)


def mlp(served: Recommender, users: np.ndarray, items: np.ndarray) -> np.ndarray:
    """The layers as torch numbers them: linear, ReLU, batch norm, linear, …"""

    def layer(number: int, part: str) -> np.ndarray | None:
        names = {t.name for tensors in served.bundle._tensors.values() for t in tensors}
        name = f"layers.{number}.{part}"
        return served.bundle.table(name).astype(np.float64) if name in names else None

    pairs = [np.concatenate([user, item]) for user in users for item in items]
    x = np.array(pairs)
    last = len(served.manifest.model.config["hidden_layers"]) * 3
    for number in range(last + 1):
        weight, bias = layer(number, "weight"), layer(number, "bias")
        mean, variance = layer(number, "running_mean"), layer(number, "running_var")
        if weight is None:
            x = np.maximum(x, 0)
        elif mean is not None:
            assert variance is not None
            x = (x - mean) / np.sqrt(variance + 1e-5) * weight + bias
        else:
            x = x @ weight.T + (0 if bias is None else bias)
    return x.reshape(len(users), len(items))


def to_range(logits: np.ndarray, score_range: tuple[float, float] | None) -> np.ndarray:
    if score_range is None:
        return logits
    low, high = score_range
    return low + (high - low) / (1 + np.exp(-logits))


def best(scores: np.ndarray, excluded: set[int], k: int) -> np.ndarray:
    """The k highest scores of the items that are left, best first."""
    left = [score for index, score in enumerate(scores) if index and index not in excluded]
    return np.sort(left)[::-1][:k]


def same_list(index: np.ndarray, scores: np.ndarray, expected: np.ndarray, all_scores: np.ndarray) -> None:
    """Equal by value at each rank; items are free within ties, and each is worth what it claims."""
    n = len(expected)
    np.testing.assert_allclose(scores[:n], expected, atol=TOLERANCE)
    np.testing.assert_allclose(all_scores[index[:n]], scores[:n], atol=TOLERANCE)
    assert len(set(index[:n].tolist())) == n


def an_unknown(ids: Any) -> Any:
    return "nobody" if ids.is_string else 10**9


def equal(a: Ranking, b: Ranking, row: int) -> None:
    """Row `row` of a batch against a single answer. Sums may be taken in another order: bits may differ."""
    np.testing.assert_allclose(a.scores[row], b.scores, atol=TOLERANCE)
    assert a.known[row] == b.known
    assert a.count[row] == b.count
    same = np.abs(np.diff(b.scores, prepend=np.inf)) > TOLERANCE  # outside ties
    assert (a.item_indices[row] == b.item_indices)[same].mean() > 0.9


# Recommend


def test_lists_are_the_best_of_brute_force(served: Recommender, listed: np.ndarray) -> None:
    k = served.largest_k("recommend")
    ranking = served.recommend(all_users(served), k)
    for row in range(len(served.users)):
        seen = set(served.seen.of_user(row + 1).tolist())
        expected = best(listed[row + 1], seen, k)
        assert ranking.count[row] == len(expected)
        same_list(ranking.item_indices[row], ranking.scores[row], expected, listed[row + 1])
        assert not seen & set(ranking.item_indices[row].tolist())


def test_ratings_are_the_predicted_ones_on_the_scale(served: Recommender, truth: np.ndarray) -> None:
    users, k = all_users(served), served.largest_k("recommend")
    many = served.recommend(np.tile(users, 10), k)  # more than fit a run
    if not served.predicts_ratings:
        assert many.ratings is None
        assert served.recommend(users[0], k).ratings is None
        return
    assert many.ratings is not None
    assert many.ratings.dtype == np.float32
    expected = on_scale(served, np.take_along_axis(np.tile(truth[1:], (10, 1)), many.item_indices, axis=1))
    left = many.item_indices > 0
    np.testing.assert_allclose(many.ratings[left], expected[left], atol=TOLERANCE)
    assert (many.ratings[~left] == NO_SCORE).all()
    alone = served.recommend(users[0], k)
    np.testing.assert_allclose(alone.ratings, many.ratings[0], atol=TOLERANCE)


def test_ids_and_indices_say_the_same(served: Recommender) -> None:
    ranking = served.recommend(all_users(served)[0], 5)
    assert ranking.item_ids.tolist() == [served.items[i].item_id for i in ranking.item_indices.tolist()]
    assert ranking.item_ids.shape == ranking.scores.shape == (5,)
    assert ranking.scores.dtype == np.float32
    assert ranking.known is True
    assert ranking.count == 5


def test_batch_equals_single(served: Recommender) -> None:
    users = [*all_users(served), an_unknown(served.users)]
    ranking = served.recommend(users, 10)
    for row, user in enumerate(users):
        equal(ranking, served.recommend(user, 10), row)


def test_large_batches_are_cut_and_give_the_same(served: Recommender) -> None:
    """More users than fit a run of a ranking graph, and more pairs than fit a run of `score.onnx`."""
    users = all_users(served)
    alone, many = served.recommend(users, 10), served.recommend(np.tile(users, 20), 10)
    np.testing.assert_allclose(many.scores, np.tile(alone.scores, (20, 1)), atol=TOLERANCE)
    items = np.resize(served.items.ids.ids(np.arange(1, 51)), 40_000)
    scores = served.score(users[0], items).scores
    np.testing.assert_allclose(scores, np.resize(scores[:50], 40_000), atol=TOLERANCE)


def test_seen_items_come_back_when_asked_for(served: Recommender, listed: np.ndarray) -> None:
    k = served.largest_k("recommend")
    ranking = served.recommend(all_users(served)[3], k, exclude_seen=False)
    same_list(ranking.item_indices, ranking.scores, best(listed[4], set(), k), listed[4])


def test_further_exclusions(served: Recommender) -> None:
    users = all_users(served)[:2]
    before = served.recommend(users, 3)
    alone = served.recommend(users[0], 3, exclude_item_ids=before.item_ids[0])
    assert not set(alone.item_ids) & set(before.item_ids[0])
    both = served.recommend(users, 3, exclude_item_ids=[before.item_ids[0].tolist(), []])
    assert both.item_ids[0].tolist() == alone.item_ids.tolist()
    assert both.item_ids[1].tolist() == before.item_ids[1].tolist()
    # An id that nobody knows is left out anyway.
    same = served.recommend(users[0], 3, exclude_item_ids=[an_unknown(served.items.ids)])
    assert same.item_ids.tolist() == before.item_ids[0].tolist()


def test_where_items_run_out_the_tail_is_empty_and_says_so(served: Recommender) -> None:
    everything = served.items.ids.ids(np.arange(1, len(served.items) + 1))
    user = all_users(served)[0]
    left = everything[:2].tolist()
    ranking = served.recommend(user, 5, exclude_seen=False, exclude_item_ids=everything[2:])
    assert ranking.count == 2
    assert type(ranking.count) is int
    assert set(ranking.item_ids[:2].tolist()) == set(left)
    assert ranking.item_ids[2:].tolist() == [None if served.items.ids.is_string else -1] * 3
    assert ranking.item_indices[2:].tolist() == [0] * 3
    assert (ranking.scores[2:] == NO_SCORE).all()
    none = served.recommend(user, 5, exclude_item_ids=everything)
    assert none.count == 0


def test_an_unknown_user_gets_the_average_and_it_is_said(served: Recommender, listed: np.ndarray) -> None:
    unknown = an_unknown(served.users)
    ranking = served.recommend(unknown, 10)
    assert ranking.known is False
    top = served.rank(np.array([0]), 10)
    assert ranking.item_indices.tolist() == top.indices[0].tolist()
    assert ranking.scores.tolist() == top.scores[0].tolist()
    same_list(ranking.item_indices, ranking.scores, best(listed[0], set(), 10), listed[0])
    mixed = served.recommend([all_users(served)[0], unknown], 10)
    assert mixed.known.tolist() == [True, False]
    with pytest.raises(UnknownIdError, match="is not in this bundle") as caught:
        served.recommend([all_users(served)[0], unknown], unknown="error")
    assert repr(unknown) in str(caught.value)
    with pytest.raises(LookupError):
        served.recommend(unknown, unknown="error")


def test_an_empty_batch_is_an_empty_answer(served: Recommender) -> None:
    ranking = served.recommend([], 4)
    assert ranking.item_ids.shape == ranking.scores.shape == (0, 4)
    assert served.score([], []).scores.shape == (0,)
    assert served.similar_items([], 4).item_ids.shape == (0, 4)


def test_no_exclusions_at_index_level(served: Recommender) -> None:
    nothing = served.rank(np.array([1, 2]), exclude_item_indices=np.empty((2, 0), np.int64))
    padding = served.rank(np.array([1, 2]), exclude_item_indices=np.zeros((2, 3), np.int64))
    assert (nothing.indices == padding.indices).all()


# Score


def test_scores_are_those_of_brute_force(served: Recommender, truth: np.ndarray) -> None:
    n_users, n_items = len(served.users), len(served.items)
    users, items = np.divmod(np.arange((n_users + 1) * (n_items + 1)), n_items + 1)
    scores = served.score_indices(users, items)
    assert scores.dtype == np.float32
    np.testing.assert_allclose(scores, truth[users, items], atol=TOLERANCE)


def test_scores_by_id(served: Recommender, truth: np.ndarray) -> None:
    users, items = all_users(served), served.items.ids
    unknown = an_unknown(items)
    pair = served.score(users[2], items.one_id(7))
    assert isinstance(pair.scores, float)
    assert pair.scores == pytest.approx(truth[3, 7], abs=TOLERANCE)
    assert pair.known is True
    many = served.score([users[2], users[0]], [items.one_id(7), unknown])
    np.testing.assert_allclose(many.scores, [truth[3, 7], truth[1, 0]], atol=TOLERANCE)
    assert many.known.tolist() == [True, False]
    one_user = served.score(users[2], [items.one_id(1), items.one_id(2)])
    np.testing.assert_allclose(one_user.scores, truth[3, 1:3], atol=TOLERANCE)
    with pytest.raises(UnknownIdError):
        served.score(users[2], unknown, unknown="error")


def test_a_score_is_what_the_list_says(served: Recommender) -> None:
    """Two graphs, one model."""
    user, model = all_users(served)[0], served.manifest.model
    ranking = served.recommend(user, 10)
    scores = served.score(user, ranking.item_ids).scores
    if model.lists == model.scores:  # of a single part that ranks, too
        np.testing.assert_allclose(scores, ranking.scores, atol=TOLERANCE)
    if model.scores == "ratings":
        np.testing.assert_allclose(on_scale(served, scores), ranking.ratings, atol=TOLERANCE)


# Similar items


def test_neighbours_are_those_of_brute_force(served: Recommender) -> None:
    unit = table(served, "item_directions")
    cosines = (unit @ unit.T) * table(served, "item_support")[:, 0]
    k = served.largest_k("similar_items")
    everything = served.items.ids.ids(np.arange(1, len(served.items) + 1))
    ranking = served.similar_items(everything, k)
    assert ranking.ratings is None
    for row in range(len(everything)):
        expected = best(cosines[row + 1], {row + 1}, k)
        same_list(ranking.item_indices[row], ranking.scores[row], expected, cosines[row + 1])
        assert row + 1 not in ranking.item_indices[row]
        assert ranking.count[row] == len(everything) - 1


def test_neighbours_of_one_and_of_nobody(served: Recommender) -> None:
    one = served.similar_items(served.items[3].item_id, 5)
    assert one.item_ids.shape == (5,)
    equal(served.similar_items([served.items[3].item_id], 5), one, 0)
    with pytest.raises(UnknownIdError):
        served.similar_items(an_unknown(served.items.ids))
    assert served.similar_items(an_unknown(served.items.ids), unknown="average").known is False


# Fold-in


def ridge(served: Recommender, items: list[int], ratings: list[float]) -> np.ndarray:
    """Every score of the new user, by numpy's solver in float64; docs/bundle.md states the problem."""
    assert served.manifest.fold_in is not None
    q = table(served, "item_factors")
    user = table(served, "user_factors")[0]
    weights = np.full(q.shape[1], served.manifest.fold_in.regularization)
    if served.manifest.model.score_range is None:
        weights *= (q[1:] ** 2).sum(axis=1).mean()
    offsets = np.zeros(len(q))
    if "item_biases" in names(served):
        offsets = table(served, "item_biases")[:, 0]
    if "user_biases" in names(served):
        weights = np.append(weights, served.manifest.fold_in.regularization)
        q = np.column_stack([q, np.ones(len(q))])
        user = np.append(user, table(served, "user_biases")[0])
    target = np.array(ratings, np.float64)
    if served.manifest.model.score_range is not None:
        low, high = served.manifest.model.score_range
        share = np.clip((target - low) / (high - low), 0.01, 0.99)
        target = np.log(share / (1 - share))
    rated = q[items]
    matrix = rated.T @ rated + np.diag(weights)
    user = user + np.linalg.solve(matrix, rated.T @ (target - offsets[items] - rated @ user))
    return to_range(q @ user + offsets, served.manifest.model.score_range)


def sum_of_input_rows(served: Recommender, items: list[int]) -> np.ndarray:
    """Every score of the new user of a bundle whose only part is `ease`; docs/bundle.md states the prior."""
    settings = served.manifest.list_fold_in
    assert settings is not None
    row = np.append(table(served, "input_factors")[items].sum(axis=0), 0.0)
    share = settings.prior_ratings / (settings.prior_ratings + len(items))
    return table(served, "ranking_item_factors") @ (row + share * table(served, "fold_in_prior")[0])


GIVEN = [([3], [5.0]), ([1, 2, 3], [0.5, 5.0, 3.0]), (list(range(1, 31)), [4.0, 1.0] * 15)]


def test_fold_in_solves_its_closed_form(served: Recommender) -> None:
    if "fold_in" not in served.manifest.graphs:
        with pytest.raises(UnsupportedError, match="no fold_in graph"):
            served.fold_in([], [])
        return
    k, model = served.largest_k("fold_in"), served.manifest.model
    for items, ratings in GIVEN:
        ids = [served.items[item].item_id for item in items]
        ranking = served.fold_in(ids, ratings, k)
        predicted = ridge(served, items, ratings) if served.predicts_ratings else None
        if predicted is None:
            assert ranking.ratings is None
        else:
            n = ranking.count
            at_ranks = on_scale(served, predicted[ranking.item_indices[:n]])
            np.testing.assert_allclose(ranking.ratings[:n], at_ranks, atol=2e-4)
        if len(model.parts) > 1:
            continue  # the tests of `export` solve them side by side
        scores = sum_of_input_rows(served, items) if predicted is None else predicted
        expected = best(scores, set(items), k)
        np.testing.assert_allclose(ranking.scores[: len(expected)], expected, atol=2e-4)
        np.testing.assert_allclose(scores[ranking.item_indices[: len(expected)]], expected, atol=2e-4)
        assert ranking.count == len(expected)
        assert not set(items) & set(ranking.item_indices.tolist())


def test_fold_in_of_nobody_and_of_many(served: Recommender) -> None:
    if served.manifest.fold_in is None:
        return  # an MLP has no closed form
    nobody = served.fold_in([], [], 5)
    average = served.recommend(an_unknown(served.users), 5)
    np.testing.assert_allclose(nobody.scores, average.scores, atol=TOLERANCE)
    a, b, c = (served.items[index].item_id for index in (1, 2, 3))
    many = served.fold_in([[a, b], [c], []], [[5, 1], [3], []], 5)
    for row, (items, ratings) in enumerate((([a, b], [5, 1]), ([c], [3]), ([], []))):
        equal(many, served.fold_in(items, ratings, 5), row)


def test_ten_are_listed_unless_said_otherwise(served: Recommender) -> None:
    user, item = all_users(served)[0], served.items[1].item_id
    assert len(served.recommend(user).scores) == len(served.similar_items(item).scores) == 10


# Threads


def test_threads_that_share_a_recommender_get_the_same_answers(bundle_path: Path) -> None:
    alone, shared = Recommender.load(bundle_path, "cpu"), Recommender.load(bundle_path, "cpu")
    users = [*all_users(alone)] * 8
    item = alone.items[1].item_id

    def ask(served: Recommender, user: Any) -> tuple[Any, ...]:
        ranking = served.recommend(user, 10)
        return ranking.item_ids.tolist(), ranking.scores.tolist(), served.score(user, item).scores

    expected = [ask(alone, user) for user in users]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda user: ask(shared, user), users)) == expected
