"""The approximate row of a new user of an MLP."""

from __future__ import annotations

import numpy as np
import pytest

from export.graphs.fold_in import fold_in_graph
from export.model.inputs import FoldInHistory, Ratings
from export.model.mlp import MlpArrays
from export.write.fold_in_choice import choose_linear_map
from serve.bundle.manifest import FoldIn

N_USERS, N_ITEMS, WIDTH = 300, 23, 6
SETTINGS = FoldIn(
    method="linear map",
    prior_ratings=1.0,
    regularization=0.01,
    steps=0,
    n_items=N_ITEMS,
    held_out_rmse=None,
    n_held_out_users=0,
)


@pytest.fixture
def taught() -> tuple[MlpArrays, tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """A network of 300 users around the average user, and all ratings that it gives."""
    rng = np.random.default_rng(5)

    def normal(*shape: int) -> np.ndarray:
        return rng.normal(0, 0.7, shape).astype(np.float32)

    users = normal(N_USERS + 1, WIDTH)
    users[0] = users[1:].mean(axis=0)
    layers = ((normal(1, WIDTH), normal(1)),)
    arrays = MlpArrays(users, normal(N_ITEMS + 1, WIDTH), layers, normal(N_ITEMS + 1, 5), (0.0, 5.5))
    user_index, item_index = (axis.ravel() + 1 for axis in np.indices((N_USERS, N_ITEMS)))
    ratings = arrays.scores64(np.arange(1, N_USERS + 1))[:, 1:].ravel().astype(np.float32)
    return arrays, (user_index, item_index, ratings)


def test_the_graph_computes_the_map(taught, run_model) -> None:
    arrays, train = taught
    mapped = arrays.with_linear_map(*train, SETTINGS)
    model = fold_in_graph(mapped, 5, SETTINGS)
    items = np.array([[3, 0, 5], [0, 0, 0]])
    ratings = np.array([[4, np.nan, 1], [np.nan, 1e30, 0]], np.float32)
    found = run_model(model, {"item_indices": items, "ratings": ratings})["user_factors"]
    exact = [mapped.fold_in64(i, r, np.zeros(0)) for i, r in zip(items, ratings, strict=True)]
    np.testing.assert_allclose(found, exact, atol=1e-5)
    np.testing.assert_allclose(found[1], arrays.user_hidden[0], atol=1e-6)  # nothing rated: the average user


def histories(train: tuple[np.ndarray, ...], n_given: int) -> list[FoldInHistory]:
    _, items, ratings = (column.reshape(N_USERS, N_ITEMS)[:40] for column in train)
    return [
        FoldInHistory(Ratings(i[:n_given], r[:n_given]), Ratings(i[n_given:], r[n_given:]))
        for i, r in zip(items, ratings, strict=True)
    ]


def test_it_is_taken_where_it_beats_the_average_user(taught) -> None:
    arrays, train = taught
    chosen = choose_linear_map(arrays, train, histories(train, 15))
    assert chosen is not None
    mapped, settings = chosen
    assert settings.method == "linear map"
    average = arrays.scores64(np.array([0]))[0]
    rest = np.concatenate([average[i] - r for _, (i, r) in histories(train, 15)])
    assert settings.held_out_rmse < 0.8 * np.sqrt(np.mean(rest**2))
    assert mapped.can_fold_in


def test_it_is_left_out_where_the_average_user_predicts_better(taught) -> None:
    arrays, (users, items, ratings) = taught
    noise = np.random.default_rng(0).permutation(ratings)  # nothing can be learned from them
    average = arrays.scores64(np.array([0]))[0].astype(np.float32)
    judged = [
        FoldInHistory(known, Ratings(held_out.item_indices, average[held_out.item_indices]))
        for known, held_out in histories((users, items, noise), 15)
    ]
    assert choose_linear_map(arrays, (users, items, noise), judged) is None
    assert choose_linear_map(arrays, (users, items, noise), []) is None
