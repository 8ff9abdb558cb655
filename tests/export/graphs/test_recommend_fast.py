"""`recommend_fast.onnx` against float64, and the `Recommender` that answers with it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tiny_runs

from export.graphs import recommend_fast
from export.graphs.recommend_fast import LARGEST_K, SPEC, recommend_fast_graph
from export.model import reference
from export.model.arrays import Float32
from export.model.dot import DotArrays
from export.model.mlp import MlpArrays
from export.model.quantised import LARGEST, ZERO, block_size, int4_rows, int8_columns
from export.write.bundle import export_run
from export.write.run_inputs import load_run_inputs
from recsys.errors import ConfigError
from serve.bundle.bundle import open_bundle
from serve.bundle.conformance import read_conformance
from serve.runtime import ranker
from serve.runtime.checked_graph import open_checked
from serve.runtime.recommender import Recommender

PRODUCTS = ["dot-bias", "parts"]


def unpacked(factors: Float32) -> Float32:
    """What the codes and scales of `int4_rows` stand for."""
    codes, scales = int4_rows(factors, len(factors))
    low, high = codes & 15, codes >> 4
    numbers = np.stack([low, high], axis=3).reshape(*codes.shape[:2], -1).astype(np.float32) - ZERO
    return (numbers * scales[:, :, None]).reshape(len(factors), -1)


@pytest.mark.parametrize("n_factors", [1, 5, 16, 17, 64, 65, 130])
def test_rows_of_4_bits_are_within_half_a_step(rng, n_factors) -> None:
    factors = rng.normal(0, rng.uniform(0.01, 10, (40, 1)), (40, n_factors)).astype(np.float32)
    factors[3] = 0
    back, block = unpacked(factors), block_size(n_factors)
    assert not back[:, n_factors:].any()
    for start in range(0, n_factors, block):
        part = factors[:, start : start + block]
        step = np.abs(part).max(axis=1, keepdims=True) / 7
        assert (np.abs(back[:, start : start + block][:, : part.shape[1]] - part) <= 0.5001 * step).all()


@pytest.mark.parametrize("n_factors", [1, 5, 64])
def test_columns_of_8_bits_are_within_half_a_step(rng, n_factors) -> None:
    factors = rng.normal(0, rng.uniform(0.01, 10, n_factors), (40, n_factors)).astype(np.float32)
    factors[:, 0] = 0
    biases = rng.normal(0, 3, (40, 1)).astype(np.float32)
    codes, steps = int8_columns(factors, biases, n=48)
    assert codes.shape == (n_factors + 1, 48)
    assert not codes[:, 40:].any()
    assert np.abs(codes).max() <= LARGEST
    back = codes[:, :40].T * steps
    assert (np.abs(back - np.concatenate([factors, biases], axis=1)) <= 0.5001 * steps).all()


@pytest.mark.parametrize("bits", [8, 4])
@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize("n_factors", [5, 64, 100])
def test_lists_are_those_of_float64(rng, run_model, monkeypatch, biased, n_factors, bits) -> None:
    if bits == 4:
        monkeypatch.setattr(recommend_fast, "LARGEST_INT8_TABLE", 0)

    def normal(*shape: int) -> Float32:
        return rng.normal(0, 0.7, shape).astype(np.float32)

    arrays = DotArrays(
        # Users of one run whose rows have very different lengths, one of them none.
        user_factors=normal(10, n_factors) * np.array([[0], *[[10.0**-n] for n in range(9)]], np.float32),
        item_factors=normal(2001, n_factors),
        user_biases=normal(10, 1) if biased else None,
        item_biases=normal(2001, 1) if biased else None,
        y_range=(0.5, 5.5) if biased else None,
    )
    users = np.arange(10)
    scores = arrays.scores64(users)
    # The best items of each user are left out, as many as there are candidates.
    exclude = np.argsort(-scores, axis=1)[:, :130]
    feeds = {"user_index": users, "exclude_item_indices": exclude}
    found = run_model(recommend_fast_graph(arrays, 10), feeds)
    indices, best = reference.top_k(scores, exclude, 10)
    np.testing.assert_array_equal(found["top_item_indices"], indices)
    np.testing.assert_allclose(found["top_scores"], best, atol=2e-5)


@pytest.mark.parametrize("bits", [8, 4])
def test_of_equal_scores_the_lower_index_comes_first_and_the_tail_is_empty(
    run_model, monkeypatch, bits
) -> None:
    if bits == 4:
        monkeypatch.setattr(recommend_fast, "LARGEST_INT8_TABLE", 0)
    factors = np.ones((12, 4), np.float32)
    factors[[3, 7]] = 2
    arrays = DotArrays(np.ones((2, 4), np.float32), factors, None, None, None)
    feeds = {"user_index": np.array([1]), "exclude_item_indices": np.array([[2, 5, 0]])}
    found = run_model(recommend_fast_graph(arrays, 11), feeds)
    assert found["top_item_indices"].tolist() == [[3, 7, 1, 4, 6, 8, 9, 10, 11, 0, 0]]
    np.testing.assert_allclose(found["top_scores"], [[8, 8, *[4] * 7, -1e30, -1e30]], rtol=1e-6)


def test_an_mlp_is_refused(rng) -> None:
    arrays = MlpArrays(
        user_hidden=np.ones((3, 1), np.float32),
        item_hidden=np.ones((4, 1), np.float32),
        layers=((np.ones((1, 1), np.float32), np.ones(1, np.float32)),),
        item_factors=np.ones((4, 2), np.float32),
        y_range=None,
    )
    with pytest.raises(ConfigError, match="leave --fast out"):
        recommend_fast_graph(arrays, 2)


@pytest.fixture(scope="module")
def fast_bundle(tiny_run, tmp_path_factory):
    made: dict[str, Path] = {}

    def get(name: str) -> Path:
        if name not in made:
            made[name] = tmp_path_factory.mktemp("fast") / name
            export_run(tiny_run(name), made[name], fast=True)
        return made[name]

    return get


@pytest.mark.parametrize("name", PRODUCTS)
def test_is_verified_has_cases_and_gives_the_exact_lists(fast_bundle, name, monkeypatch) -> None:
    path = fast_bundle(name)
    parity = open_bundle(path).manifest.parity
    checks = {c.provider: c for c in parity.checks if c.graph == "recommend_fast"}
    assert checks.keys() == {"cpu"}
    assert checks["cpu"].passed
    assert checks["cpu"].list_agreement == 1.0
    assert read_conformance(open_bundle(path).file("conformance.json")).graphs["recommend_fast"]
    monkeypatch.setattr(ranker, "FAST_ITEMS", 1)
    fast, exact = Recommender.load(path, "cpu"), Recommender.load(path, "cpu", exact=True)
    users = [fast.users.one_id(index) for index in range(1, tiny_runs.N_USERS + 1)]
    for user in users:
        found, wanted = fast.recommend(user, 8), exact.recommend(user, 8)
        assert (found.graph, wanted.graph) == ("recommend_fast", "recommend")
        np.testing.assert_array_equal(found.item_ids, wanted.item_ids)
        np.testing.assert_allclose(found.scores, wanted.scores, atol=1e-4)
        if wanted.ratings is not None:
            np.testing.assert_allclose(found.ratings, wanted.ratings, atol=1e-4)


def test_answers_only_one_user_with_a_short_list_of_a_large_catalogue(fast_bundle, monkeypatch) -> None:
    path = fast_bundle("dot-bias")
    served = Recommender.load(path, "cpu")
    user = served.users.one_id(1)
    assert served.recommend(user).graph == "recommend"  # a small catalogue
    monkeypatch.setattr(ranker, "FAST_ITEMS", 1)
    assert served.recommend(user).graph == "recommend_fast"
    assert served.recommend([user, user]).graph == "recommend"
    assert next(iter(served.recommend([user, user]))).graph == "recommend"
    largest = served.largest_k("recommend_fast")
    assert largest == min(LARGEST_K, served.largest_k("recommend"))
    assert served.recommend(user, largest).graph == "recommend_fast"
    assert served.recommend(user, largest + 1).graph == "recommend"


def test_the_check_notices_a_wrong_table(tiny_run, run_model) -> None:
    inputs = load_run_inputs(tiny_run("dot-bias")).inputs(10, raw_ids=False, fast=True)
    assert isinstance(inputs.arrays, DotArrays)
    wrong = replace(inputs.arrays, item_factors=-inputs.arrays.item_factors)
    model = recommend_fast_graph(wrong, 10)
    comparison = SPEC.check(lambda graph, feeds: run_model(model, dict(feeds)), inputs, inputs.sample)
    assert comparison.errors.max() > comparison.tolerance


@pytest.mark.slow
def test_its_table_is_rearranged_where_others_are_shared(fast_bundle) -> None:
    bundle = open_bundle(fast_bundle("dot-bias"))

    def keeps_tables(graph: str) -> bool:
        session, _ = open_checked(bundle, graph, "cpu", threads=1, share_tables=True)
        try:
            return session.get_session_options().get_session_config_entry("session.disable_prepacking") == "1"
        except RuntimeError:  # no such entry
            return False

    assert keeps_tables("recommend")
    assert not keeps_tables("recommend_fast")
