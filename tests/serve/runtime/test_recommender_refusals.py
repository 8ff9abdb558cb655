"""Arguments of a recommender that are refused before a graph runs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from fixture_bundles import FIXTURES

from serve.errors import RequestError, UnknownIdError
from serve.runtime.recommender import Recommender

from ..conftest import all_users


@pytest.mark.parametrize("top_k", [0, -1, 51, 10**9, 2.0, "5", True])
def test_a_list_of_impossible_length(served: Recommender, top_k: Any) -> None:
    with pytest.raises(RequestError, match="top_k must"):
        served.recommend(all_users(served)[0], top_k)


def test_tables_of_ids_are_refused(served: Recommender) -> None:
    users, items = all_users(served)[:4].reshape(2, 2), served.items.ids.ids(np.array([[1, 2], [3, 4]]))
    for ask in (
        lambda: served.recommend(users),
        lambda: served.recommend(users[0, 0], exclude_item_ids=items),
        lambda: served.score(users, items),
        lambda: served.similar_items(items),
    ):
        with pytest.raises(RequestError, match=r"must be one list, got an array of shape \(2, 2\)"):
            ask()


@pytest.mark.parametrize("wrong", [1.5, None, True, b"a", [[10]], {"a": 1}], ids=repr)
def test_ids_that_are_none(served: Recommender, wrong: Any) -> None:
    for ask in (
        lambda: served.recommend(wrong),
        lambda: served.recommend([wrong]),
        lambda: served.score(all_users(served)[0], wrong),
        lambda: served.similar_items(wrong),
        lambda: served.recommend(all_users(served)[0], exclude_item_ids=[wrong]),
    ):
        with pytest.raises(RequestError, match=r"_id must be"):
            ask()


@pytest.mark.parametrize(
    ("users", "exclude"),
    [
        ([-1], [[0]]),
        ([31], [[0]]),
        ([1.0], [[0]]),
        ([[1]], [[0]]),
        ([1], [[-1]]),
        ([1], [[51]]),
        ([1], [0]),
        ([1, 2], [[0]]),
        ([2**40], [[0]]),
    ],
)
def test_indices_out_of_range_never_reach_a_graph(served: Recommender, users: Any, exclude: Any) -> None:
    with pytest.raises(RequestError):
        served.rank(np.array(users), exclude_item_indices=np.array(exclude))


def test_pairs_must_be_pairs(served: Recommender) -> None:
    with pytest.raises(RequestError, match="2 users, but 3 items"):
        served.score_indices(np.array([1, 2]), np.array([1, 2, 3]))
    with pytest.raises(RequestError, match="must lie in 0 to 50"):
        served.score_indices(np.array([1]), np.array([51]))


def test_exclusions_must_fit_the_batch(served: Recommender) -> None:
    users = all_users(served)[:2]
    item = served.items[1].item_id
    for wrong in ([[item]], [item, item], item):
        with pytest.raises(RequestError, match="exclude_item_ids"):
            served.recommend(users, exclude_item_ids=wrong)
    with pytest.raises(RequestError, match="exclude_item_ids"):
        served.recommend(users[0], exclude_item_ids=item)


def test_an_unknown_choice(served: Recommender) -> None:
    with pytest.raises(RequestError, match="'average' or 'error', got 'mean'"):
        served.recommend(all_users(served)[0], unknown="mean")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("items", "ratings", "message"),
    [
        ([1001], [5.5], "must lie in 0.5 to 5"),
        ([1001], [0], "must lie in 0.5 to 5"),
        ([1001], [float("nan")], "must lie in 0.5 to 5"),
        ([1001], [float("inf")], "must lie in 0.5 to 5"),
        ([1001], ["good"], "must be numbers"),
        ([1001], [[5]], "one list of numbers"),
        ([1001], [5, 4], "1 items, but 2 ratings"),
        ([1001, 1001], [5, 4], "item 1001 is rated more than once"),
        ([[1001]], [5], "ratings must be a list for each user"),
        ([[1001], [1002]], [[5]], "one list for each of 2 users"),
        (1001, 5, "item_ids must be a list"),
        (["1001"], [5], "item_id must be an integer"),
    ],
)
def test_ratings_that_can_not_be_folded_in(items: Any, ratings: Any, message: str) -> None:
    served = Recommender.load(FIXTURES / "dot-bias", "cpu")
    with pytest.raises(RequestError, match=message):
        served.fold_in(items, ratings)
    with pytest.raises(UnknownIdError, match="item_id 7 is not in this bundle"):
        served.fold_in([1001, 7], [5, 4])
