"""`recommend.onnx` against the slow, obvious ranking, for every kind of model."""

from __future__ import annotations

import numpy as np
import pytest

from export.graphs.compare_lists import compare_lists
from export.graphs.recommend import recommend_graph
from export.model.arrays import Arrays
from export.model.dot import DotArrays
from export.model.mlp import MlpArrays
from export.model.reference import MASKED

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


def of_one_factor(items: list[float], y_range: tuple[float, float] | None = None) -> DotArrays:
    """A user of factor 1, and items whose factors are their logits."""
    item_factors = np.array(items, np.float32)[:, None]
    return DotArrays(np.ones((2, 1), np.float32), item_factors, None, None, y_range)


@pytest.fixture
def rank(run_model):
    """Run `recommend.onnx` of these arrays, by default for every user without exclusions."""

    def ranked(arrays: Arrays, k: int = 8, users: np.ndarray = ALL_USERS, exclude: np.ndarray | None = None):
        exclude = NOBODY[: len(users)] if exclude is None else exclude
        return run_model(recommend_graph(arrays, k), {"user_index": users, "exclude_item_indices": exclude})

    return ranked


def test_equals_the_reference(arrays, rank, rng) -> None:
    exclude = rng.integers(0, 24, (10, 7))
    found = rank(arrays, exclude=exclude)
    assert found["top_item_indices"].dtype == np.int64
    assert found["top_scores"].dtype == np.float32
    assert found["top_item_indices"].shape == found["top_scores"].shape == (10, 8)
    check(arrays, found, ALL_USERS, exclude)


def test_batch_equals_single(arrays, rank) -> None:
    batch = rank(arrays)
    for user in ALL_USERS:
        single = rank(arrays, users=np.array([user]))
        np.testing.assert_array_equal(single["top_item_indices"][0], batch["top_item_indices"][user])
        np.testing.assert_allclose(single["top_scores"][0], batch["top_scores"][user], atol=TOLERANCE)


def test_exclusions_may_have_no_column(arrays, rank) -> None:
    check(arrays, rank(arrays, exclude=np.zeros((10, 0), np.int64)), ALL_USERS, NOBODY)


def test_the_tail_is_index_0_where_too_few_are_left(arrays, rank) -> None:
    exclude = np.arange(1, 21)[None]  # 3 of 23 items are left
    found = rank(arrays, 8, ALL_USERS[:1], exclude)
    assert set(found["top_item_indices"][0, :3]) == {21, 22, 23}
    np.testing.assert_array_equal(found["top_item_indices"][0, 3:], 0)
    np.testing.assert_array_equal(found["top_scores"][0, 3:], np.float32(MASKED))
    check(arrays, found, ALL_USERS[:1], exclude)


def test_equal_scores_come_in_order_of_index(rank) -> None:
    found = rank(of_one_factor([9, 1, 2, 1, 2, 1]), 5, np.array([1]))
    assert found["top_item_indices"].tolist() == [[2, 4, 1, 3, 5]]
    assert found["top_scores"].tolist() == [[2, 2, 1, 1, 1]]


def test_scores_beyond_the_sigmoids_resolution_are_still_ranked(rank) -> None:
    # sigmoid(20) and sigmoid(30) are the same float32; the logits are not.
    found = rank(of_one_factor([0, 20, 30, 25], (0.0, 5.0)), 3, np.array([1]))
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
