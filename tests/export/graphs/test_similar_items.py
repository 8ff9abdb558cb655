"""`similar_items.onnx` against shrunk cosines in float64."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from export.graphs.compare_lists import compare_lists
from export.graphs.similar_items import similar_items_graph
from export.model import reference
from export.model.side_by_side import SideBySide
from export.model.similar_items import MIN_RATINGS, directions, similar_rows, support
from export.write.shrinkage_choice import DEFAULT_SHRINKAGE, choose_shrinkage

TOLERANCE = 1e-6


def test_equals_the_reference(arrays, run_model, rng) -> None:
    items, shrunk = np.arange(24), rng.random(24).astype(np.float32)
    rows = similar_rows(arrays)
    found = run_model(similar_items_graph(directions(rows), shrunk, 10), {"item_index": items})
    truth = reference.cosines(rows, items) * shrunk
    errors, agreement = compare_lists(
        truth, items[:, None], found["top_item_indices"], found["top_scores"], TOLERANCE
    )
    assert errors.max() <= TOLERANCE
    assert agreement == 1.0


def test_rows_are_those_of_the_decomposed_scores_however_tables_are_scaled(dot_arrays) -> None:
    scores = dot_arrays.user_factors[1:].astype(np.float64) @ dot_arrays.item_factors.T  # [users, items]
    _, values, right = np.linalg.svd(scores - scores.mean(axis=0), full_matrices=False)
    items = np.arange(24)
    n_factors = dot_arrays.item_factors.shape[1]
    decomposed = (right.T * np.sqrt(values))[:, :n_factors]
    expected = reference.cosines(decomposed, items)
    np.testing.assert_allclose(reference.cosines(similar_rows(dot_arrays), items), expected, atol=1e-5)
    with_popularity = SideBySide.of(dot_arrays, [], np.arange(24), 1.0)
    np.testing.assert_allclose(reference.cosines(similar_rows(with_popularity), items), expected, atol=1e-5)
    rescaled = replace(
        dot_arrays, user_factors=5 * dot_arrays.user_factors, item_factors=dot_arrays.item_factors / 5
    )
    np.testing.assert_allclose(reference.cosines(similar_rows(rescaled), items), expected, atol=1e-5)


def test_the_nearest_is_parallel_and_the_farthest_opposite(run_model) -> None:
    rows = np.array([[0, 0], [1, 0], [5, 0], [0, 2], [-3, 0]], np.float32)
    graph = similar_items_graph(directions(rows), np.ones(5, np.float32), 4)
    found = run_model(graph, {"item_index": np.array([1])})
    # Itself is left out, so the fourth place is empty.
    assert found["top_item_indices"].tolist() == [[2, 3, 4, 0]]
    np.testing.assert_allclose(found["top_scores"][0, :3], [1, 0, -1], atol=TOLERANCE)


def test_an_item_without_factors_is_like_nothing() -> None:
    np.testing.assert_allclose(directions(np.array([[0, 0], [3, 4]], np.float32)), [[0, 0], [0.6, 0.8]])


def test_support_rises_with_the_ratings_from_a_floor_on() -> None:
    np.testing.assert_allclose(support(np.array([0, MIN_RATINGS - 1, 5, 95]), 5.0), [0, 0, 0.5, 0.95])


def test_an_item_that_few_have_rated_does_not_stand_before_a_well_known_one(run_model) -> None:
    """Though it is parallel, and the well-known one is not."""
    rows = np.array([[0, 0], [1, 0], [1, 0], [1, 0.5]], np.float32)
    shrunk = support(np.array([0, 200, MIN_RATINGS, 200]), 5.0)
    found = run_model(similar_items_graph(directions(rows), shrunk, 2), {"item_index": np.array([1])})
    assert found["top_item_indices"].tolist() == [[3, 2]]


@pytest.mark.parametrize("held_out", [0.0, 0.3])
def test_the_shrinkage_is_chosen_where_ratings_are_held_out(rng, held_out: float) -> None:
    """Two tastes; rows of items with few ratings are noise, so they must be shrunk hard."""
    users, items = (axis.ravel() + 1 for axis in np.indices((200, 60)))
    rates = (users % 2 == items % 2) & (rng.random(len(users)) < np.where(items <= 20, 0.6, 0.02))
    users, items = users[rates], items[rates]
    side = (-1.0) ** np.arange(61)
    noise = rng.normal(size=(61, 2)) * np.where(np.arange(61) <= 20, 0.05, 2.0)[:, None]
    rows = (np.column_stack([np.ones(61), side]) + noise).astype(np.float32)
    chosen = choose_shrinkage(directions(rows), users, items, rng.random(len(users)) < held_out)
    if held_out:
        assert chosen.shrinkage >= 10.0
        assert chosen.held_out_cosine is not None
    else:
        assert (chosen.shrinkage, chosen.held_out_cosine) == (DEFAULT_SHRINKAGE, None)
