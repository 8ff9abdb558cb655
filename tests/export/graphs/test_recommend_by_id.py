"""`recommend_by_id.onnx` against the recommender: every kind of model, int and string ids."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tiny_runs

from export.errors import GraphError
from export.graphs.recommend import recommend_graph
from export.graphs.recommend_by_id import MAX_STRINGS, SPEC, recommend_by_id_graph
from export.model.inputs import IdTables
from export.model.reference import MASKED
from export.verify.runners import onnxruntime_runner
from export.write.bundle import export_run
from export.write.run_inputs import load_run_inputs
from serve.bundle.bundle import open_bundle
from serve.bundle.conformance import difference, read_conformance
from serve.runtime.recommender import Recommender

INT_IDS = IdTables(np.array([7, -5, 2**62, 1, 2, 3, 4, 5, 6]), np.arange(2**60, 2**60 + 23), None)
STRING_IDS = IdTables(
    np.array(["ann", "Ann", "", "日本", "a b", "'; --", "6", "7", "unknown"], object),
    np.array([f"item {i}" for i in range(23)], object),
    [f"Zoë's № {i}" if i else "" for i in range(23)],
)


# Each is exported here; those that share a kind or its code with another are slow.
NAMES = [
    name if name == "dot-bias-string-ids" else pytest.param(name, marks=pytest.mark.slow)
    for name in tiny_runs.CONFIGS
]


@pytest.fixture(scope="module")
def raw_bundle(tiny_run, tmp_path_factory):
    made: dict[str, Path] = {}

    def get(name: str) -> Path:
        if name not in made:
            made[name] = tmp_path_factory.mktemp("raw") / name
            export_run(tiny_run(name), made[name], raw_ids=True, filtered=True, explain=True, variety=True)
        return made[name]

    return get


@pytest.mark.parametrize("name", NAMES)
def test_equals_the_recommender_id_by_id(raw_bundle, name) -> None:
    served = Recommender.load(raw_bundle(name), "cpu")
    is_string = name.endswith("string-ids")
    users = [served.users.one_id(index) for index in range(1, tiny_runs.N_USERS + 1)]
    users.append("nobody" if is_string else 11)
    exclude = [[served.items.ids.one_id(1 + (7 * i + j) % 50) for j in range(3)] for i in range(len(users))]
    dtype = object if is_string else np.int64
    feeds = {"user_id": np.array(users, dtype), "exclude_item_ids": np.array(exclude, dtype)}
    found = onnxruntime_runner(raw_bundle(name), "cpu")("recommend_by_id", feeds)
    wanted = served.recommend(users, 50, exclude_seen=False, exclude_item_ids=exclude)
    np.testing.assert_array_equal(found["known"], wanted.known)
    np.testing.assert_array_equal(found["top_scores"], wanted.scores)
    missing = "" if is_string else -1
    np.testing.assert_array_equal(
        found["top_item_ids"], np.where(wanted.item_indices > 0, wanted.item_ids, missing)
    )
    titles = [["" if i == 0 else served.items[i].title for i in row] for row in wanted.item_indices.tolist()]
    np.testing.assert_array_equal(found["top_titles"], np.array(titles, object))


@pytest.mark.parametrize("name", NAMES)
def test_is_listed_verified_and_has_conformance_cases(raw_bundle, name) -> None:
    bundle = open_bundle(raw_bundle(name))
    assert "recommend_by_id.onnx" in bundle.manifest.files
    checks = [check for check in bundle.manifest.parity.checks if check.graph == "recommend_by_id"]
    assert {check.provider for check in checks} == {"cpu", "onnx.reference"}
    assert all(check.passed for check in checks)
    run = onnxruntime_runner(bundle.path, "cpu")
    cases = read_conformance(bundle.file("conformance.json")).graphs["recommend_by_id"]
    tolerance = bundle.manifest.graphs["recommend_by_id"].tolerance
    assert {False, True} == {known for case in cases for known in case.outputs["known"].array().tolist()}
    for case in cases:
        feeds, right = case.arrays()
        found = run("recommend_by_id", feeds)
        assert difference(found, right, tolerance) is None
        swapped = {key: value[:, ::-1] if key == "top_item_ids" else value for key, value in found.items()}
        assert difference(swapped, right, tolerance) is not None


def test_the_check_notices_a_swapped_id(tiny_run, run_model) -> None:
    inputs = load_run_inputs(tiny_run("dot")).inputs(10, raw_ids=True)
    assert inputs.ids is not None
    wrong = inputs.ids.item_ids.copy()
    wrong[[0, 1]] = wrong[[1, 0]]
    model = recommend_by_id_graph(inputs.arrays, replace(inputs.ids, item_ids=wrong), 10)
    comparison = SPEC.check(lambda graph, feeds: run_model(model, dict(feeds)), inputs, inputs.sample)
    assert comparison.errors.max() > comparison.tolerance


@pytest.mark.parametrize("ids", [INT_IDS, STRING_IDS], ids=["int", "string"])
def test_any_id_of_its_type_is_looked_up_exactly(arrays, run_model, ids) -> None:
    users = np.arange(10)
    exclude = np.array([[0, 0], [5, 0], [23, 1]] + [[2, 3]] * 7)
    plain = run_model(recommend_graph(arrays, 8), {"user_index": users, "exclude_item_indices": exclude})
    found = run_model(
        recommend_by_id_graph(arrays, ids, 8),
        {"user_id": ids.users(users), "exclude_item_ids": ids.items(exclude)},
    )
    np.testing.assert_array_equal(found["top_scores"], plain["top_scores"])
    np.testing.assert_array_equal(found["top_item_ids"], ids.items(plain["top_item_indices"]))
    assert found["known"].tolist() == [False] + [True] * 9
    assert ("top_titles" in found) == (ids.titles is not None)


def test_ids_to_leave_out_may_have_no_column_and_all_may_be_left_out(arrays, run_model) -> None:
    model = recommend_by_id_graph(arrays, INT_IDS, 8)
    nothing = {"user_id": np.array([7]), "exclude_item_ids": np.zeros((1, 0), np.int64)}
    assert (run_model(model, nothing)["top_item_ids"] > 0).all()
    found = run_model(model, {"user_id": np.array([7]), "exclude_item_ids": INT_IDS.item_ids[None]})
    assert (found["top_item_ids"] == -1).all()
    assert (found["top_scores"] == np.float32(MASKED)).all()


def test_the_id_that_means_no_item_is_refused(arrays) -> None:
    taken = IdTables(INT_IDS.user_ids, np.append(INT_IDS.item_ids[:22], -1), None)
    with pytest.raises(GraphError, match=r"-1.*no item"):
        recommend_by_id_graph(arrays, taken, 8)


def test_more_strings_than_a_reader_takes_are_refused(arrays) -> None:
    items = np.arange(MAX_STRINGS + 1)
    with pytest.raises(GraphError, match="400,001 strings, more than 400,000"):
        recommend_by_id_graph(arrays, IdTables(INT_IDS.user_ids, items, [""] * len(items)), 8)


@pytest.mark.parametrize("name", NAMES)
def test_the_committed_bundles_are_what_the_exporter_writes(raw_bundle, name) -> None:
    """All but the manifest, which has measured figures: `python tests/tiny_runs.py` renews them."""
    fixture = tiny_runs.RAW_ID_FIXTURES / name
    assert {path.name for path in fixture.iterdir()} == {path.name for path in raw_bundle(name).iterdir()}
    for path in raw_bundle(name).iterdir():
        if path.name not in ("manifest.json", "bom.cdx.json"):  # the latter has versions, too
            assert path.read_bytes() == (fixture / path.name).read_bytes(), path.name
