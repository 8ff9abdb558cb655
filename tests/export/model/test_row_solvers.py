"""A new user's row of each ranking part: the graph against float64, and against the rows of the training."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from made_up import interactions

from export.graphs.build import begin, finish
from export.graphs.fold_in import INPUTS
from export.graphs.spec import TensorSpec
from export.model.row_solvers import RowSolver, solver_of
from recsys.data.interactions import Interactions
from recsys.models import KINDS

N_USERS, N_ITEMS = 40, 25
# Float32 sums of a few dozen numbers around 1, and 16 steps of conjugate gradients.
TOLERANCE = 1e-5


@pytest.fixture(scope="module")
def ratings() -> Interactions:
    rng = np.random.default_rng(4)
    user, item = np.nonzero(rng.random((N_USERS, N_ITEMS)) < 0.4)
    return interactions(1 + user, 1 + item, rng.integers(1, 6, len(user)))


def fitted(kind: str, ratings: Interactions) -> dict[str, np.ndarray]:
    fit = KINDS[kind].fit
    assert fit is not None
    return dict(
        fit(
            ratings,
            KINDS[kind].config(n_factors=6),
            seed=0,
            device=torch.device("cpu"),
            on_progress=lambda done, total: None,
            on_iteration=lambda metrics: None,
        )
    )


def solve(run_model: Any, solver: RowSolver, items: np.ndarray, ratings: np.ndarray) -> np.ndarray:
    graph, (item_indices, given) = begin("rows", INPUTS)
    row = solver.row(graph, item_indices, given, N_ITEMS, 16)
    output = TensorSpec("row", "float32", ("B", "F"))
    model = finish(graph, [output], {"row": row}, {"F": 6})
    return run_model(model, {"item_indices": items, "ratings": ratings.astype(np.float32)})["row"]


@pytest.mark.parametrize("kind", ["ease", "ials"])
def test_ratings_of_the_training_give_the_row_of_the_training(
    kind: str, ratings: Interactions, run_model
) -> None:
    state = fitted(kind, ratings)
    solver = solver_of(state)
    assert solver is not None
    for user in (1, N_USERS):
        rows = ratings.user_index == user
        items, given = ratings.item_index[rows].astype(np.int64), ratings.ratings[rows]
        exact = solver.row64(items, given)
        # The last half-step of ials is iterative, too.
        np.testing.assert_allclose(exact, state["user_factors"][user], atol=1e-3)
        np.testing.assert_allclose(
            solve(run_model, solver, items[None], given[None])[0], exact, atol=TOLERANCE
        )


@pytest.mark.parametrize("kind", ["ease", "ials"])
def test_padding_changes_nothing_whatever_stands_in_it(kind: str, ratings: Interactions, run_model) -> None:
    solver = solver_of(fitted(kind, ratings))
    assert solver is not None
    plain = solve(run_model, solver, np.array([[3, 5]]), np.array([[4, 1]]))
    padded = solve(run_model, solver, np.array([[3, 0, 5, 0]]), np.array([[4, np.nan, 1, 1e30]]))
    np.testing.assert_allclose(padded, plain, atol=1e-6)
    assert not solver.row64(np.array([0]), np.array([np.nan])).any()


def test_a_part_without_a_closed_form_has_no_solver() -> None:
    assert solver_of({"user_factors": np.zeros((2, 1)), "item_factors": np.zeros((2, 1))}) is None
