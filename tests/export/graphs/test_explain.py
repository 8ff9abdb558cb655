"""`explain.onnx` against one solve for each rating in float64, and against the scores of `fold_in.onnx`."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from export.graphs.explain import explain_graph
from export.graphs.fold_in import fold_in_graph, list_fold_in_graph
from export.model.contributions import contributions64
from export.model.inputs import ExportInputs
from export.model.row_solvers import ImplicitRidge
from export.write.explain_choice import NO_SUM
from export.write.run_inputs import load_run_inputs
from serve.bundle.explain import Explain
from serve.bundle.manifest import FoldIn, ListFoldIn, ListRidge, SimilarItems

FOLD_IN = FoldIn(regularization=2.0, steps=8, n_items=50, held_out_rmse=None, n_held_out_users=0)
LIST_FOLD_IN = ListFoldIn(
    methods={},
    steps=8,
    n_items=50,
    prior_ratings=1.5,
    popularity=0.5,
    held_out_ndcg={},
    n_held_out_users=0,
)
SIMILAR = SimilarItems(shrinkage=10, min_ratings=3, held_out_cosine=None)
RIDGE = ListRidge(
    unobserved_weight=0.1,
    regularization=0.1,
    scale=3.0,
    average_share=0.5,
    held_out_ndcg=None,
    average_ndcg=None,
)
# float32 sums of a hundred products, relative to the width of the scores.
TOLERANCE = 1e-5

ITEMS = np.array([[3, 17, 40, 8], [5, 0, 44, 0], [0, 0, 0, 0]])
# What stands in padding changes nothing.
RATINGS = np.where(ITEMS > 0, [[5.0, 1.0, 3.5, 0.5]], np.nan).astype(np.float32)
EXPLAINED = np.array([[1, 2, 3, 50, 0], [5, 6, 7, 8, 9], [10, 20, 30, 40, 50]])


@pytest.fixture(scope="module", params=["dot-bias", "parts", "whitened"])
def inputs(request: pytest.FixtureRequest, tiny_run) -> ExportInputs:
    """What an export is made from; `whitened`: the parts, with a ridge for one that has no closed form.

    tests/serve/runtime/test_reasons.py has the other kinds.
    """
    name = "parts" if request.param == "whitened" else request.param
    given = (FOLD_IN, LIST_FOLD_IN if name == "parts" else None)
    found = load_run_inputs(tiny_run(name)).inputs(10, raw_ids=False, fold_in=given, similar=SIMILAR)
    if request.param == "whitened":
        ranking = found.ranking
        assert ranking is not None
        place = [part.kind for part in ranking.parts].index("ease")
        columns = ranking.columns(place)
        tables = ranking.dot.item_factors[:, columns], ranking.dot.rows64(np.array([0]))[0, columns]
        solver = ImplicitRidge.whitening(*tables, RIDGE, "stand_in")
        others = [one for one in ranking.parts if one.kind == "ials"]
        without = replace(others[0], solver=None)  # a part whose new users are average
        changed = {"ease": replace(ranking.parts[place], solver=solver), "ials": without}
        parts = [changed.get(one.kind, one) for one in ranking.parts]
        found = replace(found, ranking=replace(ranking, parts=tuple(parts)))
    return replace(found, explain=Explain(steps=8))


@pytest.fixture(scope="module")
def found(inputs: ExportInputs, run_model) -> dict[str, NDArray[np.float32]]:
    feeds = {"item_indices": ITEMS, "ratings": RATINGS, "explained_item_indices": EXPLAINED}
    return run_model(explain_graph(inputs), feeds)


def test_equals_float64(inputs: ExportInputs, found) -> None:
    for row in range(len(ITEMS)):
        exact = contributions64(inputs, ITEMS[row], RATINGS[row], EXPLAINED[row])
        np.testing.assert_allclose(
            found["contributions"][row], exact.contributions, atol=TOLERANCE * inputs.list_span
        )
        np.testing.assert_allclose(found["rest"][row], exact.rest, atol=TOLERANCE * inputs.list_span)


def test_the_sum_is_the_score_of_fold_in(inputs: ExportInputs, found, run_model) -> None:
    every = replace(inputs, top_k=inputs.arrays.n_items)
    if inputs.ranking is None:
        model = fold_in_graph(inputs.arrays, every.top_k, FOLD_IN)
    else:
        model = list_fold_in_graph(every)
    listed = run_model(model, {"item_indices": ITEMS, "ratings": RATINGS})
    totals = found["contributions"].sum(axis=2) + found["rest"]
    n_compared = 0
    for row in range(len(ITEMS)):
        pairs = zip(listed["top_item_indices"][row].tolist(), listed["top_scores"][row].tolist(), strict=True)
        scores = dict(pairs)
        for item, total in zip(EXPLAINED[row].tolist(), totals[row].tolist(), strict=True):
            if item in scores and item > 0:  # what is rated is not listed
                assert total == pytest.approx(scores[item], abs=TOLERANCE * inputs.list_span)
                n_compared += 1
    assert n_compared >= 11


def test_padding_adds_nothing_and_without_ratings_all_is_rest(found) -> None:
    padded = np.broadcast_to((ITEMS == 0)[:, None], found["contributions"].shape)
    assert (found["contributions"][padded] == 0).all()
    assert (found["contributions"][0] != 0).any()


def test_a_contribution_is_the_solution_for_its_rating_alone(inputs: ExportInputs) -> None:
    """By the definition: the matrix of all rated items, the target of one of them."""
    rated, ratings, explained = ITEMS[0], RATINGS[0], EXPLAINED[0]
    found = contributions64(inputs, rated, ratings, explained).contributions
    if inputs.ranking is None:
        assert inputs.fold_in is not None
        arrays = inputs.arrays
        factors, target, _ = arrays.ridge_problem(rated, ratings)
        system = factors.T @ factors + np.diag(arrays.ridge(FOLD_IN))
        own = arrays.item_rows64(explained)
        alone = [own @ np.linalg.solve(system, factors[h] * target[h]) for h in range(len(rated))]
        if arrays.y_range is not None:  # multiplied by what makes the sum a difference of scores
            ratio = found[:, 0] / alone[0]
            assert (ratio > 0).all()
            alone = [one * ratio for one in alone]
        np.testing.assert_allclose(found, np.stack(alone, axis=1), rtol=1e-9)
        return
    total = np.zeros(found.shape)
    items = inputs.ranking.dot.item_factors[explained].astype(np.float64)
    for number, part in enumerate(inputs.ranking.parts):
        own = items[:, inputs.ranking.columns(number)]
        if part.predicts_ratings:
            factors, target, _ = inputs.arrays.ridge_problem(rated, ratings)
            system = factors.T @ factors + np.diag(inputs.arrays.ridge(FOLD_IN))
            rows = [np.linalg.solve(system, factors[h] * target[h])[: part.width] for h in range(4)]
        elif isinstance(part.solver, ImplicitRidge):
            factors, weights = part.solver.problem64(rated, ratings)
            system = factors.T * weights @ factors + np.eye(part.width)
            rows = [np.linalg.solve(system, factors[h] * weights[h]) for h in range(4)]
            if part.solver.back is not None:
                rows = [row @ part.solver.back[0] for row in rows]
        elif part.solver is not None:
            rows = list(part.solver.input_factors[rated].astype(np.float64))
        else:
            continue
        total += part.factor * np.stack([own @ row for row in rows], axis=1)
    np.testing.assert_allclose(found, total, rtol=1e-7, atol=1e-9)


def test_a_network_has_none(tiny_run) -> None:
    loaded = load_run_inputs(tiny_run("mlp"))
    settings = FoldIn(
        method="linear map", prior_ratings=5.0, regularization=0.1, steps=0, n_items=50,
        held_out_rmse=None, n_held_out_users=0,
    )  # fmt: skip
    made = loaded.inputs(10, raw_ids=False, explain=True, fold_in=(settings, None), similar=SIMILAR)
    assert made.explain is None
    assert made.left_out["explain"] == NO_SUM


def test_the_steps_are_enough(tiny_run) -> None:
    loaded = load_run_inputs(tiny_run("parts"))
    given = (FOLD_IN, LIST_FOLD_IN)
    chosen = loaded.inputs(10, raw_ids=False, explain=True, fold_in=given, similar=SIMILAR)
    assert chosen.explain is not None
    assert "explain" not in chosen.left_out
