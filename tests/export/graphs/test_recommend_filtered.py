"""`recommend_filtered.onnx` against a filter in numpy: every kind of model, rules for all users or each."""

from __future__ import annotations

import numpy as np
import pytest

from export.errors import GraphError
from export.graphs.compare_lists import compare_lists
from export.graphs.recommend import recommend_graph
from export.graphs.recommend_filtered import left_out, recommend_filtered_graph
from export.graphs.rules import example_rules, no_rules
from export.model.item_columns import ItemColumns
from serve.bundle.item_rules import MAX_CATEGORIES, MAX_NUMBERS, UNKNOWN_NUMBER

N_ITEMS = 23
USERS = np.arange(10)
EXCLUDE = np.stack([USERS, USERS + 5], axis=1)
# float32 sums of five products, in ratings.
TOLERANCE = 1e-5
GENRES = ["Action|Drama", "Drama", None, "Comedy", "Action", ""]


@pytest.fixture
def columns() -> ItemColumns:
    genres = [GENRES[item % len(GENRES)] for item in range(N_ITEMS)]
    years = [None if item % 7 == 0 else 1990 + item for item in range(N_ITEMS)]
    numbers = [np.nan if item % 5 == 0 else 0.1 * item for item in range(N_ITEMS)]
    # A feature may be called as a table of the model is.
    return ItemColumns.of(np.arange(N_ITEMS + 1), genres, years, {"factors": np.array(numbers)})


@pytest.fixture
def check(arrays, columns, run_model):
    """Run the graph for all users with these rules; returns its lists, compared with the reference."""

    def run(rules: dict[str, np.ndarray], k: int = 8) -> np.ndarray:
        model = recommend_filtered_graph(arrays, columns, k)
        found = run_model(model, {"user_index": USERS, "exclude_item_indices": EXCLUDE, **rules})
        indices, scores = found["top_item_indices"], found["top_scores"]
        every = left_out(columns, rules, EXCLUDE)
        errors, agreement = compare_lists(arrays.scores64(USERS), every, indices, scores, TOLERANCE)
        assert errors.max() <= TOLERANCE
        assert agreement == 1.0
        return indices

    return run


def test_a_rule_for_each_user(check, columns) -> None:
    assert len(set(map(tuple, check(example_rules(columns, len(USERS))).tolist()))) > 1


@pytest.mark.parametrize("row", range(4))
def test_one_rule_for_all_users(check, columns, row) -> None:
    rules = {name: array[row : row + 1] for name, array in example_rules(columns, 4).items()}
    assert columns.banned(rules)[0, 1:].any()
    check(rules)


def test_random_rules(check, columns, rng) -> None:
    rules = no_rules(columns, len(USERS))
    shape = rules["wanted_categories"].shape
    rules["wanted_categories"] = (rng.random(shape) < 0.3).astype(np.float32)
    rules["unwanted_categories"] = (rng.random(shape) < 0.3).astype(np.float32)
    rules["lowest_numbers"][:5] = [3, 1992, 0.3]
    rules["highest_numbers"][3:] = [20, 2010, 1.9]
    # Repeated items and padding; some users have no allow list.
    rules["allow_item_indices"] = rng.integers(0, N_ITEMS + 1, (len(USERS), 30)) * (USERS < 6)[:, None]
    check(rules, N_ITEMS)


def test_without_rules_it_is_recommend(arrays, columns, run_model) -> None:
    feeds = {"user_index": USERS, "exclude_item_indices": EXCLUDE}
    plain = run_model(recommend_graph(arrays, 8), feeds)
    for n_rows in (1, len(USERS)):
        rules = no_rules(columns, n_rows)
        rules["allow_item_indices"] = np.zeros((n_rows, 0), np.int64)
        found = run_model(recommend_filtered_graph(arrays, columns, 8), feeds | rules)
        for name in ("top_item_indices", "top_scores"):
            np.testing.assert_array_equal(found[name], plain[name])


def test_the_tail_is_index_0_where_too_few_items_obey(check, columns) -> None:
    rules = no_rules(columns, 1)
    rules["allow_item_indices"] = np.array([[21, 22, 23, 21]])
    assert (np.count_nonzero(check(rules), axis=1) == 3).all()
    rules["lowest_numbers"][0, 0] = N_ITEMS + 1
    assert not check(rules).any()


def test_an_item_without_a_year_is_within_a_range_that_has_no_lower_end(columns) -> None:
    rules = no_rules(columns, 1)
    rules["highest_numbers"][0, 1] = 2000
    banned = columns.banned(rules)[0]
    unknown = columns.numbers["year"] == np.float32(UNKNOWN_NUMBER)
    assert not banned[unknown].any()
    rules["lowest_numbers"][0, 1] = 0
    assert columns.banned(rules)[0][unknown].all()


def test_items_without_categories_and_years(arrays, run_model) -> None:
    columns = ItemColumns.of(np.arange(N_ITEMS + 1), None, None)
    rules = no_rules(columns, 1)
    assert rules["wanted_categories"].shape == rules["lowest_numbers"].shape == (1, 1)
    rules["lowest_numbers"][0, 0] = 20
    model = recommend_filtered_graph(arrays, columns, 8)
    found = run_model(model, {"user_index": USERS, "exclude_item_indices": EXCLUDE, **rules})
    assert set(found["top_item_indices"].ravel().tolist()) == {0, 20, 21, 22, 23}


def test_too_many_categories_are_refused() -> None:
    genres = ["|".join(map(str, range(MAX_CATEGORIES + 1)))]
    with pytest.raises(GraphError, match=r"1,001 categories.*--filtered"):
        ItemColumns.of(np.array([0, 1]), genres, None)


def test_the_first_numbers_are_those_of_rules(caplog) -> None:
    numbers = {name: np.array([7.0]) for name in ("n_ratings", "year", *map(str, range(MAX_NUMBERS - 1)))}
    columns = ItemColumns.of(np.array([0, 1]), None, None, numbers)
    assert list(columns.numbers) == ["n_ratings", *map(str, range(MAX_NUMBERS - 1))]
    assert columns.numbers["n_ratings"].tolist() == [0, 1]
    assert not caplog.records
    more = ItemColumns.of(np.array([0, 1]), None, None, numbers | {"more": np.array([7.0])})
    assert list(more.numbers) == list(columns.numbers)
    assert "the first 16 numbers of the items, without 1: 'more'" in caplog.text


def test_numbers_without_end_are_bounded() -> None:
    columns = ItemColumns.of(np.arange(4), None, None, {"a": np.array([1e300, -np.inf, np.nan])})
    found = columns.numbers["a"]
    np.testing.assert_array_equal(found, np.float32([UNKNOWN_NUMBER, 1e29, -1e29, UNKNOWN_NUMBER]))
