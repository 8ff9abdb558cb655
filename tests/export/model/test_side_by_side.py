"""Parts that rank together: a new user's row in the graph against float64."""

from __future__ import annotations

import numpy as np
import pytest

from export.graphs.build import begin, finish
from export.graphs.fold_in import INPUTS
from export.graphs.spec import TensorSpec
from export.model.dot import DotArrays
from export.model.row_solvers import InputRows
from export.model.side_by_side import PartColumns, SideBySide
from serve.bundle.manifest import ListFoldIn

N_USERS, N_ITEMS = 5, 12
SETTINGS = ListFoldIn(
    methods={},
    steps=8,
    n_items=N_ITEMS,
    prior_ratings=2.0,
    popularity=0.5,
    held_out_ndcg={},
    n_held_out_users=0,
)


@pytest.fixture
def ranking() -> SideBySide:
    """A part that is folded in, one that is not, and the popularity."""
    rng = np.random.default_rng(0)
    users, items = (rng.normal(size=(n + 1, 5)).astype(np.float32) for n in (N_USERS, N_ITEMS))
    input_factors = rng.normal(size=(N_ITEMS + 1, 3)).astype(np.float32)
    input_factors[0] = 0
    return SideBySide.of(
        DotArrays(users, items, None, None, None),
        [PartColumns("ease", 2.0, 3, InputRows(input_factors)), PartColumns("dot", 1.0, 2, None)],
        np.arange(N_ITEMS + 1),
        spread=3.0,
    )


def test_users_of_the_training_have_the_scores_of_their_tables(ranking: SideBySide) -> None:
    users = ranking.dot.user_factors[:, :-1].astype(np.float64)
    expected = users @ ranking.item_factors.astype(np.float64).T
    np.testing.assert_allclose(ranking.scores64(np.arange(N_USERS + 1)), expected, rtol=1e-12)


def test_the_popularity_has_the_spread_of_the_scores(ranking: SideBySide) -> None:
    popularity = ranking.dot.item_factors[1:, -1]
    assert popularity.std() == pytest.approx(3.0, rel=1e-6)
    assert (np.diff(popularity) > 0).all()  # as the numbers of ratings


@pytest.mark.parametrize("prior_ratings", [0.0, 2.0])
def test_the_graph_computes_the_row(ranking: SideBySide, run_model, prior_ratings: float) -> None:
    settings = ListFoldIn(
        **{**{f: getattr(SETTINGS, f) for f in SETTINGS.__struct_fields__}, "prior_ratings": prior_ratings}
    )
    graph, (item_indices, ratings) = begin("rows", INPUTS)
    rows = ranking.list_row(graph, item_indices, ratings, settings, None)
    model = finish(graph, [TensorSpec("user_factors", "float32", ("B", "F"))], rows, {"F": 6})
    items = np.array([[3, 5, 7], [4, 0, 0], [0, 0, 0]])
    given = np.where(items > 0, 4, np.nan).astype(np.float32)
    found = run_model(model, {"item_indices": items, "ratings": given})["user_factors"]
    exact = [ranking.list_row64(i, g, settings, None) for i, g in zip(items, given, strict=True)]
    np.testing.assert_allclose(found, exact, atol=1e-5)
    np.testing.assert_allclose(found[2], ranking.prior64(settings), atol=1e-6)  # nothing rated


def test_a_part_without_a_closed_form_is_the_average_user_s(ranking: SideBySide) -> None:
    row = ranking.own_row64(np.array([3]), np.array([5.0]), None)
    np.testing.assert_allclose(row[3:5], ranking.dot.user_factors[0, 3:5])
    np.testing.assert_allclose(row[:3], 2.0 * ranking.parts[0].solver.input_factors[3], rtol=1e-6)
