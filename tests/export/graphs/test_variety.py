"""`variety.onnx` against the choices of `serve.runtime.variety`, place by place."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np
import pytest

from export.graphs import variety
from export.graphs.variety import SPEC, VALUE_TOLERANCE, feeds_of, follow, item_facts_of, variety_graph
from export.model.inputs import ExportInputs
from export.model.item_columns import categories_and_membership
from export.verify.runners import open_in_memory
from export.write.run_inputs import load_run_inputs
from serve.bundle.manifest import SimilarItems
from serve.runtime.variety import Choices, Variety

SIMILAR = SimilarItems(shrinkage=10, min_ratings=3, held_out_cosine=None)
VARIETIES = (
    *variety.EXAMPLES,
    Variety(diversity=1.0),
    Variety(surprise=1.0),
    Variety(surprise=-1.0),
    Variety(max_per_category=3),
    Variety(diversity=0.9, max_per_category=2_000_000_000),
    Variety(diversity=0.2, surprise=-0.4, max_per_category=1),
)
ALL = Variety(diversity=0.4, surprise=0.3, max_per_category=2)
N_ITEMS = 50

Order = Callable[..., np.ndarray]


@pytest.fixture(scope="module")
def inputs_of(tiny_run) -> Callable[..., ExportInputs]:
    def get(name: str, top_k: int = N_ITEMS) -> ExportInputs:
        loaded = load_run_inputs(tiny_run(name))
        return loaded.inputs(top_k, raw_ids=False, variety=True, fold_in=(None, None), similar=SIMILAR)

    return get


@pytest.fixture(scope="module")
def parts(inputs_of) -> ExportInputs:
    return inputs_of("parts")


@pytest.fixture(scope="module")
def order() -> Order:
    """The places that the graph of some inputs gives; one variety for all lists, or one for each."""
    opened = lru_cache(lambda inputs: open_in_memory(variety_graph(inputs)))

    def get(inputs: ExportInputs, indices: Any, scores: Any, *varieties: Variety) -> np.ndarray:
        feeds = feeds_of(np.asarray(indices), np.asarray(scores, np.float32), *varieties)
        places: np.ndarray = opened(inputs).run(["places"], feeds)[0]
        return places

    return get


def lists(rng: np.random.Generator, n: int, length: int = N_ITEMS) -> tuple[np.ndarray, np.ndarray]:
    """Random lists, every third one with an empty tail, and falling scores."""
    indices = np.stack([1 + rng.permutation(N_ITEMS)[:length] for _ in range(n)])
    scores = -np.sort(-rng.normal(3, 1, indices.shape), axis=1).astype(np.float32)
    ends = np.where(np.arange(n) % 3 == 2, length // 2, length)[:, None]
    left = np.arange(length) < ends
    return np.where(left, indices, 0), np.where(left, scores, np.float32(-1e30))


def check(inputs: ExportInputs, indices: Any, scores: Any, one: Variety, places: np.ndarray) -> None:
    """Every choice is as good as the best one, and is `serve`'s where nothing else is as good."""
    facts = item_facts_of(inputs)
    assert follow(indices, scores, one, facts, places).losses.max() <= VALUE_TOLERANCE
    own = Choices(indices, scores, one, facts).places(places.shape[1])
    leads = follow(indices, scores, one, facts, own).leads
    clear = np.logical_and.accumulate(leads > VALUE_TOLERANCE, axis=1)
    assert clear[:, : places.shape[1] // 2].mean() > 0.7
    np.testing.assert_array_equal(places[clear], own[clear])
    every = np.sort(places, axis=1)
    assert (np.diff(every, axis=1) > 0).all()


@pytest.mark.parametrize("name", ["dot-bias", "mlp", "parts"])
def test_equals_the_choices_of_serve(inputs_of, order, rng, name: str) -> None:
    inputs = inputs_of(name)
    indices, scores = lists(rng, 9)
    for one in VARIETIES:
        check(inputs, indices, scores, one, order(inputs, indices, scores, one))


def test_each_list_has_a_variety_of_its_own(parts, order, rng) -> None:
    indices, scores = lists(rng, len(VARIETIES))
    together = order(parts, indices, scores, *VARIETIES)
    for row, one in enumerate(VARIETIES):
        alone = order(parts, indices[row : row + 1], scores[row : row + 1], one)
        np.testing.assert_array_equal(together[row], alone[0])


def test_weights_of_0_leave_the_list_as_it_is(parts, order, rng) -> None:
    indices, scores = lists(rng, 3)
    places = np.tile(np.arange(N_ITEMS), (3, 1))
    for one in (Variety(), Variety(max_per_category=1000)):
        np.testing.assert_array_equal(order(parts, indices, scores, one), places)


def test_the_place_is_the_rank_where_no_item_is_left(parts, order) -> None:
    indices, scores = np.zeros((2, N_ITEMS), np.int64), np.full((2, N_ITEMS), -1e30)
    indices[1, :2], scores[1, :2] = [7, 3], [2, 1]
    places = order(parts, indices, scores, Variety(surprise=1.0))
    np.testing.assert_array_equal(places[:, 2:], np.tile(np.arange(2, N_ITEMS), (2, 1)))
    assert places[0, :2].tolist() == [0, 1]
    assert sorted(places[1, :2].tolist()) == [0, 1]


def test_of_equals_the_lower_index_comes_first(parts, order) -> None:
    """Items that are alike in everything, at any scale of the scores."""
    ones = np.ones(N_ITEMS + 1, np.float32)
    alike = replace(parts, top_k=5, item_directions=ones[:, None], item_support=ones / 2, ranking=None)
    alike = replace(alike, ranking_module=alike.module, scores="ratings")  # no average user's scores
    alike = replace(alike, categories=np.zeros((N_ITEMS + 1, 1), np.uint8))
    for score in (0.0, 3.3, -1e18, 1e18):
        scores = np.array([[score] * 4 + [-1e30]])
        for one in (Variety(diversity=0.5), Variety(surprise=1.0), ALL):
            assert order(alike, [[9, 4, 7, 2, 0]], scores, one).tolist() == [[3, 1, 2, 0, 4]]


@pytest.mark.parametrize("scale", [1e-18, 1e18])
def test_the_unit_of_the_scores_does_not_matter(parts, order, rng, scale: float) -> None:
    indices, scores = lists(rng, 4)
    scores = np.round(scores * 16) / 16
    scaled = np.where(indices > 0, scores.astype(np.float64) * scale, scores)
    far = np.where(indices > 0, scores + 1024, scores)  # 16ths have no rounding there
    for one in (Variety(surprise=0.4), ALL):
        expected = order(parts, indices, scores, one)
        np.testing.assert_array_equal(order(parts, indices, scaled, one), expected)
        np.testing.assert_array_equal(order(parts, indices, far, one), expected)


def test_cosines_of_the_first_candidates_say_how_they_are_spread(parts, order, rng, monkeypatch) -> None:
    for module in ("export.graphs.variety", "serve.runtime.variety"):
        monkeypatch.setattr(f"{module}.N_SPREAD", 6)
    parts = replace(parts)  # whose graph is made anew
    indices, scores = lists(rng, 5)
    check(
        parts, indices, scores, Variety(diversity=0.3), order(parts, indices, scores, Variety(diversity=0.3))
    )


def test_one_candidate_and_more_than_a_list_has(inputs_of, order, rng, monkeypatch) -> None:
    one = inputs_of("dot-bias", 1)
    assert order(one, [[9], [0]], [[1.0], [-1e30]], ALL).tolist() == [[0], [0]]
    monkeypatch.setattr(variety, "LONGEST", 4)
    short = inputs_of("dot-bias", 12)
    indices, scores = lists(rng, 6, 12)
    places = order(short, indices, scores, ALL)
    assert places.shape == (6, 4)
    check(short, indices, scores, ALL, places)


def test_items_without_categories(parts, order, rng) -> None:
    bare = replace(parts, categories=categories_and_membership(N_ITEMS, None)[1])
    indices, scores = lists(rng, 2)
    places = order(bare, indices, scores, Variety(max_per_category=1))
    np.testing.assert_array_equal(places, np.tile(np.arange(N_ITEMS), (2, 1)))


def test_choices_that_are_not_the_best_are_found(parts, rng) -> None:
    indices, scores = lists(rng, 3)
    facts = item_facts_of(parts)
    own = Choices(indices, scores, ALL, facts).places(10)
    assert follow(indices, scores, ALL, facts, own).losses.max() == 0
    swapped = own.copy()
    swapped[0, [0, 5]] = own[0, [5, 0]]
    twice = own.copy()
    twice[1, 3] = own[1, 2]
    beyond = own.copy()
    beyond[2, 9] = N_ITEMS
    assert follow(indices, scores, ALL, facts, swapped).losses[0, 0] > VALUE_TOLERANCE
    assert follow(indices, scores, ALL, facts, twice).losses[1, 3] == np.inf
    assert follow(indices, scores, ALL, facts, beyond).losses[2, 9] == np.inf


def test_the_check_finds_another_rule(parts, order) -> None:
    def run(graph: str, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        one = Variety(diversity=float(feeds["diversity"][0]))
        return {"places": order(parts, feeds["item_indices"], feeds["scores"], one)}

    found = SPEC.check(run, parts, parts.sample)
    assert found.errors.max() > found.tolerance
    short = SPEC.check(lambda graph, feeds: {"places": np.zeros((1, 1), np.int64)}, parts, parts.sample)
    assert short.errors.max() == np.inf


def test_cases_have_clear_choices(parts) -> None:
    """So that the arithmetic of a runtime can't change them."""
    facts = item_facts_of(parts)
    cases = [case.arrays() for case in SPEC.cases(parts)]
    assert max(len(feeds["item_indices"]) for feeds, _ in cases) > 1
    assert any((feeds["item_indices"][:, -1] == 0).any() for feeds, _ in cases)
    for feeds, outputs in cases:
        weights = zip(feeds["diversity"], feeds["surprise"], feeds["max_per_category"], strict=True)
        varieties = [
            Variety(diversity=float(d), surprise=float(s), max_per_category=int(m) or None)
            for d, s, m in weights
        ]
        for row, one in enumerate(varieties):
            given = feeds["item_indices"][row : row + 1], feeds["scores"][row : row + 1], one, facts
            judged = follow(*given, outputs["places"][row : row + 1])
            assert judged.losses.max() == 0
            assert judged.leads.min() > VALUE_TOLERANCE
