"""Conformance cases: a bundle that answers as they say passes, and every way not to is noticed."""

from __future__ import annotations

import copy as copies
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from click.testing import CliRunner
from fixture_bundles import BUNDLES, FIXTURES

from serve.bundle.bundle import open_bundle
from serve.bundle.conformance import Case, check_conformance, difference
from serve.commands.fold_in import fold_in
from serve.commands.recommend import recommend
from serve.commands.score import score
from serve.commands.similar import similar
from serve.errors import BundleError
from serve.runtime.checked_graph import check_all
from serve.runtime.recommender import Recommender
from serve.runtime.session import TF32_TOLERANCES, open_session, run_named

TOLERANCE = {"score": 1e-4, "top_scores": 1e-4, "user_factors": 1e-4}


def test_every_case_of_a_bundle_is_run(bundle_path: Path) -> None:
    served = Recommender.load(bundle_path, "cpu")
    document = msgspec.json.decode((bundle_path / "conformance.json").read_bytes())
    n_cases = sum(len(cases) for cases in document["graphs"].values())
    assert served.check() == n_cases > len(served.manifest.graphs)


def test_inputs_of_a_case_are_exact() -> None:
    """3 and 3.0000002 differ in the eighth digit; less the mean of such ratings, in the first."""
    ratings = np.array([[3, np.nextafter(np.float32(3), np.float32(4)), 1000.123, 1e-38, -1e38]], np.float32)
    case = Case.of({"ratings": ratings}, {"score": ratings[0]})
    inputs, outputs = msgspec.json.decode(msgspec.json.encode(case), type=Case).arrays()
    assert inputs["ratings"].tobytes() == ratings.tobytes()
    np.testing.assert_allclose(outputs["score"], ratings[0], rtol=1e-6)


@pytest.mark.parametrize("folder", ["bundles", "raw_id_bundles"])
@pytest.mark.parametrize("name", BUNDLES)
def test_all_of_a_bundle_is_in_order(folder: str, name: str) -> None:
    check_all(Recommender.load(FIXTURES.parent / folder / name, "cpu"))


@pytest.fixture
def spoil(copy: Path, forge: Callable[[str, bytes], None]) -> Callable[[Callable[[Any], object]], None]:
    """Change the copy's conformance cases, check them, and give the message of the error."""

    def change_and_check(change: Callable[[Any], object]) -> str:
        document = msgspec.json.decode((copy / "conformance.json").read_bytes())
        change(document)
        forge("conformance.json", msgspec.json.encode(document))
        served = Recommender.load(copy, "cpu")
        with pytest.raises(BundleError) as caught:
            served.check()
        return str(caught.value)

    return change_and_check  # type: ignore[return-value]


def first(document: Any, graph: str, side: str, name: str) -> Any:
    return document["graphs"][graph][0][side][name]


def add(array: Any, amount: float) -> None:
    array["data"][0] += amount


@pytest.mark.parametrize(
    ("graph", "name"),
    [
        ("score", "score"),
        ("recommend", "top_scores"),
        ("similar_items", "top_scores"),
        ("fold_in", "top_scores"),
        ("fold_in", "user_factors"),
    ],
)
def test_a_value_that_is_off(spoil: Any, graph: str, name: str) -> None:
    message = spoil(lambda document: add(first(document, graph, "outputs", name), 0.001))
    assert f"{graph} does not answer as its conformance cases say: {name} is " in message


def swap_ends(array: Any) -> None:
    data = array["data"]
    data[0], data[3] = data[3], data[0]


@pytest.mark.parametrize("graph", ["recommend", "similar_items", "fold_in"])
def test_an_item_at_the_wrong_rank(spoil: Any, graph: str) -> None:
    message = spoil(lambda document: swap_ends(first(document, graph, "outputs", "top_item_indices")))
    assert "row 0 has item " in message
    assert "at rank 1" in message


def stretch(document: Any) -> None:
    array = first(document, "score", "outputs", "score")
    array["shape"] = [array["shape"][0] + 1]
    array["data"].append(1.0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda document: document.pop("graphs"), "holds no conformance cases"),
        (lambda document: document.update(format_version=2), "format version 2, not 1"),
        (lambda document: document["graphs"].pop("score"), "no conformance cases for score"),
        (lambda document: document["graphs"].update(recommend=[]), "no conformance cases for recommend"),
        (stretch, "should have the shape"),
        (lambda document: first(document, "score", "outputs", "score").update(shape=[3]), "can't be read"),
        (
            lambda document: first(document, "score", "outputs", "score").update(dtype="complex64"),
            "can't be read",
        ),
        (lambda it: it["graphs"]["score"][0]["outputs"].clear(), "the outputs are not"),
        (
            lambda document: document["graphs"]["recommend"][0]["outputs"].pop("top_scores"),
            "the outputs are not",
        ),
        (lambda document: document["graphs"]["score"][0]["inputs"].pop("item_index"), "the inputs are not"),
        (lambda document: add(first(document, "score", "inputs", "user_index"), 1000), "beyond 0 to 30"),
        (lambda document: add(first(document, "score", "inputs", "item_index"), -1000), "beyond 0 to 50"),
        (
            lambda document: first(document, "score", "inputs", "item_index").update(shape=[1], data=[1]),
            "differ in their number of rows",
        ),
    ],
)
def test_cases_that_are_none(spoil: Any, change: Callable[[Any], object], message: str) -> None:
    assert message in spoil(change)


@pytest.mark.parametrize("graph", ["recommend", "score", "similar_items"])
def test_a_device_of_less_precision_has_larger_tolerances(graph: str) -> None:
    bundle = open_bundle(FIXTURES / "dot-bias")
    path, declared = bundle.path / f"{graph}.onnx", bundle.manifest.graphs[graph]
    session = open_session(path, "cpu")

    def less_exact(feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        found = run_named(session, feeds)
        for name, tolerance in declared.tolerance.items():
            found[name] = found[name] + np.float32(100 * tolerance)
        return found

    assert check_conformance(bundle, graph, less_exact, tolerances=TF32_TOLERANCES) > 0
    with pytest.raises(BundleError, match="as its conformance cases say"):
        check_conformance(bundle, graph, less_exact)


def test_nan_is_never_right() -> None:
    document = {"score": np.array([1.0, 2.0], np.float32)}
    found = {"score": np.array([1.0, np.nan], np.float32)}
    assert difference(found, document, TOLERANCE) == "score is nan instead of 2"
    assert difference(copies.deepcopy(document), document, TOLERANCE) is None


def test_only_ties_may_change_places() -> None:
    scores = np.array([[5.0, 4.0, 4.0001, 3.0, 2.0]], np.float32)
    document = {"top_scores": scores, "top_item_indices": np.array([[1, 2, 3, 4, 5]])}

    def with_items(*items: int) -> str | None:
        return difference(document | {"top_item_indices": np.array([items])}, document, TOLERANCE)

    assert with_items(1, 2, 3, 4, 5) is None
    assert with_items(1, 3, 2, 4, 5) is None
    assert with_items(1, 2, 3, 4, 9) is None, "beside the last rank stands one that is not listed"
    assert with_items(2, 1, 3, 4, 5) == "row 0 has item 2 instead of 1 at rank 1"
    assert with_items(1, 2, 3, 5, 4) == "row 0 has item 5 instead of 4 at rank 4"


def test_ratings_are_compared_where_the_items_are_in_their_places() -> None:
    ratings = np.array([[3.0, 4.0, 1.0]], np.float32)
    document = {
        "top_scores": np.array([[5.0, 4.0001, 4.0]], np.float32),
        "top_ratings": ratings,
        "top_item_indices": np.array([[1, 2, 3]]),
    }
    tolerance = TOLERANCE | {"top_ratings": 1e-4}
    swapped = {"top_item_indices": np.array([[1, 3, 2]]), "top_ratings": ratings[:, [0, 2, 1]]}
    assert difference(document | swapped, document, tolerance) is None
    assert difference(document | {"top_ratings": ratings + 1}, document, tolerance) == (
        "top_ratings is 4 instead of 3"
    )


def test_a_command_checks_the_graph_that_it_asks_and_a_job_checks_all(
    copy: Path, forge: Callable[[str, bytes], None], tmp_path: Path
) -> None:
    document = msgspec.json.decode((copy / "conformance.json").read_bytes())
    add(first(document, "recommend", "outputs", "top_scores"), 0.1)
    forge("conformance.json", msgspec.json.encode(document))
    (tmp_path / "pairs.csv").write_text("user_id,item_id\n10,1001\n")
    job = ["--input", str(tmp_path / "pairs.csv"), "--output", str(tmp_path / "scores")]
    for command, arguments, is_refused in (
        (recommend, ["--user-id", "10"], True),
        (similar, ["--item-id", "1001"], False),
        (fold_in, ["--rate", "1001=5"], False),
        (score, job, True),
    ):
        result = CliRunner().invoke(command, [str(copy), *arguments])
        assert isinstance(result.exception, BundleError) == is_refused, (command.name, result.exception)
        assert (result.exit_code == 0) != is_refused
