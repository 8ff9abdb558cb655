"""`recommend.onnx` against the slow, obvious ranking, for every kind of model."""

from __future__ import annotations

import numpy as np
import pytest

from export.graphs.recommend import recommend_graph
from export.model.arrays import Arrays
from export.model.dot import DotArrays
from export.model.mlp import MlpArrays
from export.model.reference import MASKED
from export.verify.compare_lists import compare_lists

ALL_USERS = np.arange(10)
NOBODY = np.zeros((10, 1), np.int64)
# float32 sums of five products, in ratings.
TOLERANCE = 1e-5


def check(arrays: Arrays, found: dict[str, np.ndarray], users: np.ndarray, exclude: np.ndarray) -> None:
    truth = arrays.scores64(users)
    errors, agreement = compare_lists(
        truth, exclude, found["top_item_indices"], found["top_scores"], TOLERANCE
    )
    assert errors.max() <= TOLERANCE
    assert agreement == 1.0


def test_equals_the_reference(arrays, run_model, rng) -> None:
    exclude = rng.integers(0, 24, (10, 7))
    found = run_model(recommend_graph(arrays, 8), {"user_index": ALL_USERS, "exclude_item_indices": exclude})
    assert found["top_item_indices"].dtype == np.int64
    assert found["top_scores"].dtype == np.float32
    assert found["top_item_indices"].shape == found["top_scores"].shape == (10, 8)
    check(arrays, found, ALL_USERS, exclude)


def test_batch_equals_single(arrays, run_model) -> None:
    model = recommend_graph(arrays, 8)
    batch = run_model(model, {"user_index": ALL_USERS, "exclude_item_indices": NOBODY})
    for user in ALL_USERS:
        single = run_model(model, {"user_index": np.array([user]), "exclude_item_indices": NOBODY[:1]})
        np.testing.assert_array_equal(single["top_item_indices"][0], batch["top_item_indices"][user])
        np.testing.assert_allclose(single["top_scores"][0], batch["top_scores"][user], atol=TOLERANCE)


def test_exclusions_may_have_no_column(arrays, run_model) -> None:
    found = run_model(
        recommend_graph(arrays, 8),
        {"user_index": ALL_USERS, "exclude_item_indices": np.zeros((10, 0), np.int64)},
    )
    check(arrays, found, ALL_USERS, NOBODY)


def test_the_tail_is_index_0_where_too_few_are_left(arrays, run_model) -> None:
    exclude = np.arange(1, 21)[None]  # 3 of 23 items are left
    found = run_model(
        recommend_graph(arrays, 8), {"user_index": ALL_USERS[:1], "exclude_item_indices": exclude}
    )
    assert set(found["top_item_indices"][0, :3]) == {21, 22, 23}
    np.testing.assert_array_equal(found["top_item_indices"][0, 3:], 0)
    np.testing.assert_array_equal(found["top_scores"][0, 3:], np.float32(MASKED))
    check(arrays, found, ALL_USERS[:1], exclude)


def test_equal_scores_come_in_order_of_index(run_model) -> None:
    arrays = DotArrays(
        user_factors=np.ones((2, 1), np.float32),
        item_factors=np.array([[9], [1], [2], [1], [2], [1]], np.float32),
        user_biases=None,
        item_biases=None,
        y_range=None,
    )
    found = run_model(
        recommend_graph(arrays, 5),
        {"user_index": np.array([1]), "exclude_item_indices": np.zeros((1, 1), np.int64)},
    )
    assert found["top_item_indices"].tolist() == [[2, 4, 1, 3, 5]]
    assert found["top_scores"].tolist() == [[2, 2, 1, 1, 1]]


def test_scores_beyond_the_sigmoids_resolution_are_still_ranked(run_model) -> None:
    # sigmoid(20) and sigmoid(30) are the same float32; the logits are not.
    arrays = DotArrays(
        user_factors=np.ones((2, 1), np.float32),
        item_factors=np.array([[0], [20], [30], [25]], np.float32),
        user_biases=None,
        item_biases=None,
        y_range=(0.0, 5.0),
    )
    found = run_model(
        recommend_graph(arrays, 3),
        {"user_index": np.array([1]), "exclude_item_indices": np.zeros((1, 1), np.int64)},
    )
    assert found["top_item_indices"].tolist() == [[2, 3, 1]]


@pytest.mark.parametrize(("n_items", "n_chunks"), [(1000, 0), (25_000, 3)])
def test_chunks_of_the_catalogue_change_nothing(run_model, rng, n_items, n_chunks) -> None:
    arrays = MlpArrays(
        user_hidden=rng.normal(size=(10, 6)).astype(np.float32),
        item_hidden=rng.normal(size=(n_items + 1, 6)).astype(np.float32),
        layers=((rng.normal(size=(1, 6)).astype(np.float32), np.zeros(1, np.float32)),),
        item_factors=np.ones((n_items + 1, 2), np.float32),
        y_range=None,
    )
    model = recommend_graph(arrays, 8)
    assert sum(node.op_type == "Slice" for node in model.graph) == n_chunks
    found = run_model(model, {"user_index": ALL_USERS, "exclude_item_indices": NOBODY})
    check(arrays, found, ALL_USERS, NOBODY)
