"""`fold_in.onnx` against `numpy.linalg.solve` of the same ridge problem in float64."""

from __future__ import annotations

import numpy as np
import pytest

from export.graphs.compare_lists import compare_lists
from export.graphs.fold_in import fold_in_graph
from export.graphs.recommend import recommend_graph
from export.model.dot import DotArrays
from export.model.inputs import FoldInHistory, Ratings
from export.write.fold_in_choice import STEPS, max_row_error
from serve.bundle.manifest import FoldIn

# Conjugate gradients in float32, 12 steps for 6 unknowns; relative to factors around 1.
TOLERANCE = 1e-5
N_STEPS = 12


def settings(regularization: float, steps: int = N_STEPS, n_items: int = 23) -> FoldIn:
    return FoldIn(
        regularization=regularization, steps=steps, n_items=n_items, held_out_rmse=None, n_held_out_users=0
    )


def folded(found: dict[str, np.ndarray]) -> np.ndarray:
    return np.concatenate([found[n] for n in ("user_factors", "user_biases") if n in found], axis=1)


@pytest.mark.parametrize("regularization", [0.1, 1.0, 10.0])
@pytest.mark.parametrize("n_rated", [1, 3, 20])
def test_equals_the_solver(dot_arrays, run_model, rng, regularization, n_rated) -> None:
    items = np.stack([rng.permutation(np.arange(1, 24))[:n_rated] for _ in range(4)])
    ratings = rng.integers(1, 6, items.shape).astype(np.float32)
    model = fold_in_graph(dot_arrays, 10, settings(regularization))
    found = run_model(model, {"item_indices": items, "ratings": ratings})
    ridge = dot_arrays.ridge(settings(regularization))
    exact = np.stack([dot_arrays.fold_in64(i, r, ridge) for i, r in zip(items, ratings, strict=True)])
    scale = max(1.0, np.abs(exact).max())
    np.testing.assert_allclose(folded(found), exact, atol=TOLERANCE * scale)

    truth = dot_arrays.row_scores64(exact)
    tolerance = 10 * TOLERANCE * scale
    errors, agreement = compare_lists(truth, items, found["top_item_indices"], found["top_scores"], tolerance)
    assert errors.max() <= tolerance
    assert agreement == 1.0


def test_padding_changes_nothing_whatever_stands_in_it(dot_arrays, run_model) -> None:
    model = fold_in_graph(dot_arrays, 10, settings(1.0))
    plain = {"item_indices": np.array([[3, 5]]), "ratings": np.array([[4, 1]], np.float32)}
    padded = {
        "item_indices": np.array([[3, 0, 5, 0]]),
        "ratings": np.array([[4, np.nan, 1, 1e30]], np.float32),
    }
    expected, found = run_model(model, plain), run_model(model, padded)
    np.testing.assert_allclose(folded(found), folded(expected), atol=1e-6)
    np.testing.assert_array_equal(found["top_item_indices"], expected["top_item_indices"])


def test_without_ratings_it_is_the_average_user(dot_arrays, run_model) -> None:
    found = run_model(
        fold_in_graph(dot_arrays, 10, settings(1.0)),
        {"item_indices": np.zeros((1, 3), np.int64), "ratings": np.zeros((1, 3), np.float32)},
    )
    average = run_model(
        recommend_graph(dot_arrays, 10),
        {"user_index": np.array([0]), "exclude_item_indices": np.zeros((1, 1), np.int64)},
    )
    np.testing.assert_array_equal(found["top_item_indices"], average["top_item_indices"])
    np.testing.assert_allclose(found["top_scores"], average["top_scores"], atol=1e-6)


def test_ratings_at_the_ends_of_the_range_stay_finite(dot_arrays, run_model) -> None:
    ends = dot_arrays.y_range or (0.5, 5.5)
    found = run_model(
        fold_in_graph(dot_arrays, 10, settings(1.0)),
        {"item_indices": np.array([[1, 2]]), "ratings": np.array([ends], np.float32)},
    )
    assert np.isfinite(folded(found)).all()


@pytest.mark.parametrize("regularization", [0.1, 10.0])
def test_an_ill_conditioned_table_is_solved(rng, regularization) -> None:
    """Singular values of the item table from 0.5 to 61, histories of 1 to 400 ratings."""
    left, _, right = np.linalg.svd(rng.normal(size=(600, 24)), full_matrices=False)
    items = (left * np.geomspace(0.5, 61, 24) @ right).astype(np.float32)
    arrays = DotArrays(rng.normal(size=(10, 24)).astype(np.float32), items, None, None, None)
    nothing = Ratings(np.array([], np.int64), np.array([], np.float32))
    histories = [
        FoldInHistory(Ratings(1 + rng.permutation(599)[:n], rng.uniform(1, 5, n).astype(np.float32)), nothing)
        for n in (1, 3, 10, 30, 100, 400)
    ]
    assert max_row_error(arrays, histories, settings(regularization, STEPS[-1], 599)) <= TOLERANCE
