"""Bundles of the tables of any trainer: answers by hand, and clear errors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.sparse import csr_matrix

import recsys
from export.errors import TableError
from export.graphs.compare_lists import compare_lists
from recsys.errors import DataError
from serve import Rules
from serve.errors import OutputError
from serve.runtime.profiles import Profiles

N_USERS, N_ITEMS, N_FACTORS = 20, 30, 4
USER_IDS = [f"user {i}" for i in range(N_USERS)]
ITEM_IDS = [100 + i for i in reversed(range(N_ITEMS))]  # in no order


def made_tables() -> dict[str, Any]:
    rng = np.random.default_rng(0)
    return {
        "user_factors": rng.normal(0, 0.6, (N_USERS, N_FACTORS)),
        "item_factors": rng.normal(0, 0.6, (N_ITEMS, N_FACTORS)),
        "item_biases": rng.normal(0, 0.3, (N_ITEMS, 1)),
    }


def seen_pairs() -> np.ndarray:
    return np.random.default_rng(1).random((N_USERS, N_ITEMS)) < 0.3


def by_hand(made: dict[str, Any]) -> np.ndarray:
    """The score of every pair, with the average in row and column 0: [n_users + 1, n_items + 1]."""
    users, items, biases = (np.vstack([table.mean(axis=0), table]) for table in made.values())
    return users @ items.T + biases.T


def assert_lists(served: Any, truth: np.ndarray, seen: np.ndarray) -> None:
    """The lists of all users, and of an unknown one, are the best of what they have not seen."""
    users = [*served.users.ids(np.arange(1, 1 + len(served.users))).tolist()]
    top = served.rank(np.arange(N_USERS + 1), 10)
    hidden = np.zeros((N_USERS + 1, N_ITEMS), np.int64)
    hidden[1:] = np.where(seen, 1 + np.arange(N_ITEMS), 0)
    tolerance = 1e-5 * np.abs(truth).max()
    errors, agreement = compare_lists(truth, hidden, top.indices, top.scores, tolerance)
    assert errors.max() <= tolerance
    assert agreement == 1
    assert served.recommend(users[0]).item_ids.tolist() == served.items.ids.ids(top.indices[1]).tolist()


@pytest.fixture(scope="module")
def ranked(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A bundle of a model that ranks, with a sparse matrix of what users have seen."""
    path = tmp_path_factory.mktemp("bundles") / "ranked"
    titles = pd.DataFrame({"item_id": [129, 128, 7], "title": ["A (1990)", "B (1991)", "C"]})
    titles = titles.assign(price=[12.5, np.nan, 3], stock=[4, 0, 1], blurb="text", when=pd.Timestamp(0))
    made = made_tables()
    made["item_factors"] = torch.from_numpy(made["item_factors"]).requires_grad_()
    options = {"user_ids": USER_IDS, "item_ids": np.array(ITEM_IDS), "items": titles, "top_k": 20}
    options |= {"explain": True, "variety": True, "filtered": True, "raw_ids": True}
    return recsys.bundle(output=path, scores="ranking", seen=csr_matrix(seen_pairs()), **made, **options)


def test_a_model_that_ranks_is_a_whole_bundle(ranked: Any) -> None:
    served = recsys.load(ranked, "cpu")
    served.check()
    assert_lists(served, by_hand(made_tables()), seen_pairs())
    assert set(ranked.manifest.graphs) >= {"score", "recommend", "similar_items"}
    assert ranked.manifest.parity.passed
    assert ranked.manifest.item_rules.numbers == ["n_ratings", "year", "price", "stock"]
    in_stock = served.recommend("user 3", 10, exclude_seen=False, rules=Rules(numbers={"stock": (1, None)}))
    assert in_stock.item_ids.tolist()[: in_stock.count] == [129]
    cheap = served.recommend("user 3", 20, exclude_seen=False, rules=Rules(numbers={"price": (None, 12)}))
    assert 129 not in cheap.item_ids
    assert cheap.count == 20
    assert [served.items.label(i) for i in (1, 2, 3)] == ["A (1990)", "B (1991)", "127"]
    assert served.seen.history(1).item_indices.tolist() == (1 + np.flatnonzero(seen_pairs()[0])).tolist()
    assert Profiles.of(served).profiles
    assert served.recommend("user 3").ratings is None
    new = served.fold_in({"A (1990)": 1, 110: 1}, top_k=5, reasons=True)
    assert len(new) == 5
    np.testing.assert_allclose(new.reasons.scores, new.scores, atol=1e-5 * ranked.manifest.model.list_span)


def test_a_taken_folder_stays(ranked: Any) -> None:
    with pytest.raises(OutputError):
        recsys.bundle(output=ranked.path, scores="ranking", **made_tables())


def bad_value(value: float) -> np.ndarray:
    table = np.ones((N_ITEMS, N_FACTORS))
    table[3, 2] = value
    return table


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"scores": "stars"}, "scores must be 'ratings' or 'ranking', got 'stars'"),
        ({"user_factors": np.ones(5)}, r"user_factors must be a table .*, got the shape \[5\]"),
        ({"item_factors": np.ones((N_ITEMS, 3))}, "user_factors have 4 columns, item_factors 3"),
        ({"item_factors": bad_value(np.nan)}, r"item_factors has 1 values .* the first nan at \[3, 2\]"),
        ({"item_factors": bad_value(1e39)}, r"item_factors has 1 values .* the first 1e\+39 at \[3, 2\]"),
        ({"item_factors": np.full((N_ITEMS, 4), "a")}, "item_factors must be numbers"),
        ({"item_biases": np.ones(3)}, r"item_biases must have one value for each of 30 rows, got \[3\]"),
        ({"user_ids": [1, 2]}, "user_ids has 2 ids for 20 rows"),
        ({"user_ids": N_USERS * ["a"]}, "user_ids has 'a' more than once"),
        ({"user_ids": np.arange(N_USERS) / 2}, "user_ids must be integers .* got double"),
        ({"item_ids": [None, *range(N_ITEMS - 1)]}, "item_ids must be integers or strings, none missing"),
        ({"items": {"item_id": [900], "title": ["Z"]}}, "items has no row for any of the ids.* like 900"),
        ({"seen": csr_matrix((3, 4))}, r"seen is \[3, 4\], and the tables are of \(20, 30\)"),
        ({"seen": {"user": [1], "item": [77]}}, "seen has 1 items that the model lacks, such as 77"),
        ({"score_range": (0, 5)}, "a score_range is for scores that are ratings"),
        ({"score_range": (5, 0)}, r"score_range must be two numbers, the lower first, got \(5, 0\)"),
        ({"scores": "ratings"}, "give rating_scale"),
        (
            {"seen": {"user": [1, 1], "item": [2, 3], "rating": [9, 1]}, "rating_scale": (1, 5)},
            r"ratings from 1 to 9, outside of the rating_scale \(1",
        ),
    ],
)  # fmt: skip
def test_wrong_tables_are_refused(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    made = made_tables() | {"scores": "ranking"} | change
    with pytest.raises(TableError, match=message):
        recsys.bundle(output=tmp_path / "bundle", **made)
    assert not (tmp_path / "bundle").exists()


def test_what_was_seen_twice_is_refused(tmp_path: Path) -> None:
    twice = {"user": [1, 1], "item": [2, 2], "rating": [4, 1]}
    with pytest.raises(DataError, match="seen: 2 ratings share their user and item"):
        recsys.bundle(output=tmp_path / "b", scores="ranking", seen=twice, **made_tables())
