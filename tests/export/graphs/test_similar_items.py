"""`similar_items.onnx` against cosines in float64."""

from __future__ import annotations

import numpy as np

from export.graphs.similar_items import item_directions, similar_items_graph
from export.model import reference
from export.model.dot import DotArrays
from export.verify.compare_lists import compare_lists

TOLERANCE = 1e-6


def test_equals_the_reference(arrays, run_model) -> None:
    items = np.arange(24)
    found = run_model(similar_items_graph(arrays, 10), {"item_index": items})
    truth = reference.cosines(arrays.item_factors, items)
    errors, agreement = compare_lists(
        truth, items[:, None], found["top_item_indices"], found["top_scores"], TOLERANCE
    )
    assert errors.max() <= TOLERANCE
    assert agreement == 1.0


def test_the_nearest_is_parallel_and_the_farthest_opposite(run_model) -> None:
    item_factors = np.array([[0, 0], [1, 0], [5, 0], [0, 2], [-3, 0]], np.float32)
    arrays = DotArrays(np.ones((2, 2), np.float32), item_factors, None, None, None)
    found = run_model(similar_items_graph(arrays, 4), {"item_index": np.array([1])})
    # Itself is left out, so the fourth place is empty.
    assert found["top_item_indices"].tolist() == [[2, 3, 4, 0]]
    np.testing.assert_allclose(found["top_scores"][0, :3], [1, 0, -1], atol=TOLERANCE)


def test_an_item_without_factors_is_like_nothing() -> None:
    directions = item_directions(np.array([[0, 0], [3, 4]], np.float32))
    np.testing.assert_allclose(directions, [[0, 0], [0.6, 0.8]])
