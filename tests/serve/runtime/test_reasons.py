"""Reasons through every door: contributions and the rest add up to the scores of `fold_in`."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from fixture_bundles import BUNDLES, FIXTURES

import recsys as facade
from serve import Recommender, Variety
from serve.bundle.titles import displayed
from serve.errors import BundleError, RequestError, UnknownIdError, UnsupportedError

EXPLAINED = FIXTURES.with_name("raw_id_bundles")
PARTS = EXPLAINED / "parts"
# float32 sums over ten ratings, relative to the width of the scores.
TOLERANCE = 1e-5


@pytest.fixture(params=[name for name in BUNDLES if name != "mlp"])
def served(request: pytest.FixtureRequest) -> Recommender:
    return Recommender.load(EXPLAINED / request.param, "cpu", threads=1)


@pytest.fixture(scope="module")
def parts() -> Recommender:
    return Recommender.load(PARTS, "cpu", threads=1)


def test_the_sum_is_the_score_of_a_new_user_s_list(served: Recommender) -> None:
    rated = served.items.ids.ids(np.array([3, 8, 21, 40])).tolist()
    span = served.manifest.model.list_span
    for given in (rated, rated[:1], []):
        found = served.fold_in(given, [5, 1, 4, 2.5][: len(given)], 20, reasons=True)
        reasons = found.reasons
        assert reasons is not None
        assert reasons.contributions.shape == (20, len(given))
        np.testing.assert_allclose(reasons.scores, found.scores, atol=TOLERANCE * span)
        assert reasons.row_scores is None
        assert reasons.distances is None
        assert served.fold_in(given, [5, 1, 4, 2.5][: len(given)], 20).reasons is None


def test_a_known_user_s_are_those_of_the_same_ratings_folded_in(served: Recommender) -> None:
    user = served.users.one_id(5)
    items, ratings, _ = served.seen.history(5)
    ids = served.items.ids.ids(items.astype(np.int64)).tolist()
    found = served.recommend(user, 7, reasons=True)
    assert found.reasons is not None
    np.testing.assert_array_equal(found.reasons.rated_indices, items)
    np.testing.assert_array_equal(found.reasons.ratings, ratings)
    new = served.explain(dict(zip(ids, ratings.tolist(), strict=True)), found.item_ids.tolist())
    np.testing.assert_array_equal(found.reasons.contributions, new.contributions)
    np.testing.assert_array_equal(found.reasons.row_scores, found.scores)
    twin = served.fold_in(ids, ratings.tolist(), 50)
    of_twin = dict(zip(twin.item_ids.tolist(), twin.scores.tolist(), strict=True))
    expected = [of_twin[item] for item in found.item_ids.tolist()]
    span = served.manifest.model.list_span
    np.testing.assert_allclose(found.reasons.scores, expected, atol=TOLERANCE * span)
    np.testing.assert_allclose(found.reasons.distances, found.scores - np.array(expected), atol=1e-5 * span)
    # Any item, listed or not: the row's score is that of the list.
    again = served.explain(user, found.item_ids.tolist())
    np.testing.assert_allclose(again.row_scores, found.scores, atol=TOLERANCE * span)
    np.testing.assert_array_equal(again.contributions, found.reasons.contributions)


def test_reasons_are_the_largest_contributions(parts: Recommender) -> None:
    found = parts.explain({1003: 5, "Movie 8, The": 1, 1021: 4, 1040: 2.5}, [1001, 1002])
    assert len(found) == 2
    for place, reasons in enumerate(found):
        row = found.contributions[place]
        raising = sorted((value for value in row.tolist() if value > 0), reverse=True)[:3]
        assert [reason.contribution for reason in reasons] == raising
        for reason in reasons:
            column = found.rated_indices.tolist().index(parts.items.ids.lookup_one(reason.item_id))
            assert reason.rating == found.ratings[column]
            assert reason.title == parts.items[int(found.rated_indices[column])].title
            assert str(reason) == f"{displayed(reason.title)} {reason.rating:g}"
        assert len(found.of(place, 1)) <= 1
    assert np.array_equal(parts.explain({1003: 5}, 1001).item_indices, [1])


def test_an_unknown_user_has_no_ratings(parts: Recommender) -> None:
    found = parts.recommend(987654, 5, reasons=True)
    assert not found.known
    assert found.reasons is not None
    assert found.reasons.contributions.shape == (5, 0)
    assert list(found.reasons) == [[]] * 5


def test_long_histories_come_in_parts(parts: Recommender, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = parts.recommend(50, 20, reasons=True).reasons
    monkeypatch.setattr("serve.runtime.reasons.VALUES_PER_RUN", 1)
    found = parts.recommend(50, 20, reasons=True).reasons
    assert whole is not None
    assert found is not None
    np.testing.assert_allclose(found.contributions, whole.contributions, atol=1e-6)


def test_a_varied_list_has_its_reasons(parts: Recommender) -> None:
    found = parts.recommend(10, 6, variety=Variety(diversity=0.7), reasons=True)
    assert found.reasons is not None
    np.testing.assert_array_equal(found.reasons.item_indices, found.item_indices)


def test_what_is_refused(parts: Recommender) -> None:
    with pytest.raises(RequestError, match="reasons are for one user"):
        parts.recommend([10, 20], reasons=True)
    with pytest.raises(RequestError, match="reasons are for one user"):
        parts.fold_in([[1001], [1002]], [[5], [4]], reasons=True)
    with pytest.raises(RequestError, match="reasons are for one user"):
        parts.explain([10, 20], 1001)
    with pytest.raises(UnknownIdError, match="user_id 7"):
        parts.explain(7, 1001)
    with pytest.raises(UnknownIdError, match="item_id 7"):
        parts.explain(10, [1001, 7])
    with pytest.raises(RequestError, match="ratings must lie in"):
        parts.explain({1001: 99}, 1002)
    without = Recommender.load(FIXTURES / "parts", "cpu")
    with pytest.raises(UnsupportedError, match="`recsys export --explain`"):
        without.recommend(10, reasons=True)
    with pytest.raises(UnsupportedError, match="`recsys export --explain`"):
        without.fold_in([], [], reasons=True)


def test_a_network_has_none() -> None:
    for folder in (EXPLAINED, FIXTURES):
        served = Recommender.load(folder / "mlp", "cpu")
        with pytest.raises(UnsupportedError, match="this bundle gives no reasons: "):
            served.recommend(10, reasons=True)


@pytest.mark.parametrize("wrong", ["nan", "columns", "rest"])
def test_a_graph_that_answers_otherwise(
    parts: Recommender, monkeypatch: pytest.MonkeyPatch, wrong: str
) -> None:
    n = len(parts.seen.of_user(1))
    found = {"contributions": np.zeros((1, 5, n), np.float32), "rest": np.zeros((1, 5), np.float32)}
    if wrong == "nan":
        found["contributions"][0, 0, 0] = np.nan
    elif wrong == "columns":
        found["contributions"] = found["contributions"][:, :, 1:]
    else:
        found["rest"] = found["rest"][:, 1:]
    forged = Recommender(parts.bundle, "cpu", threads=1)
    monkeypatch.setattr(forged, "run_graph", lambda graph, feeds: found)
    with pytest.raises(BundleError, match="the graph explain does not answer"):
        forged.recommend(10, 5, reasons=True)


def test_the_facade_and_the_notebook(parts: Recommender) -> None:
    found = facade.load(PARTS).recommend(10, 5, reasons=True)
    assert found.reasons is not None
    table = found._repr_html_()
    assert "because of" in table
    first = next(reason for reasons in found.reasons for reason in reasons)
    assert f"{displayed(first.title)} {first.rating:g}" in table


def test_the_command_line(recsys, parts: Recommender) -> None:
    code, out, _ = recsys("recommend", PARTS, "--user-id", 10, "-k", 4, "--explain", "--json")
    assert code == 0
    found = parts.recommend(10, 4, reasons=True)
    assert found.reasons is not None
    items = msgspec.json.decode(out)["items"]
    for place, item in enumerate(items):
        assert item["reasons"]["because"] == [reason._asdict() for reason in found.reasons.of(place)]
        assert item["reasons"]["explained_score"] == pytest.approx(float(found.reasons.scores[place]))
        assert item["reasons"]["rest"] == pytest.approx(float(found.reasons.rest[place]))
    code, out, _ = recsys("recommend", PARTS, "--user-id", 10, "-k", 4, "--explain")
    assert code == 0
    lines = out.splitlines()
    told = [", ".join(map(str, reasons)) for reasons in found.reasons]
    for line, because in zip(lines[2:10:2], told, strict=True):
        assert line.strip() == (f"because you rated {because}" if because else "not because of any rating")
    assert any(told)
    assert lines[-1].startswith("The reasons are those of a new user with the same ratings")
    distances = np.abs(found.reasons.distances)
    assert f"by {distances.mean():.2g} on average, {distances.max():.2g} at most" in lines[-1]
    code, out, _ = recsys("recommend", PARTS, "--user-id", 987654, "-k", 4, "--explain")
    assert code == 0
    assert out.count("not because of any rating") == 4
    assert "The reasons are" not in out
    code, out, _ = recsys("fold-in", PARTS, "--rate", "1003=5", "--rate", "1008=1", "--explain", "-k", 3)
    assert code == 0
    assert "because you rated" in out
    assert "The reasons are" not in out
    code, out, _ = recsys("fold-in", PARTS, "--rate", "1003=5", "--explain", "--json")
    assert "because" in msgspec.json.decode(out)["items"][0]["reasons"]


def test_the_command_line_without_reasons(recsys) -> None:
    code, _, err = recsys("recommend", FIXTURES / "parts", "--user-id", 10, "--explain")
    assert code == 1
    assert "recsys export --explain" in err
    code, _, err = recsys("recommend", PARTS, "--all-users", "--output", "lists", "--explain")
    assert code == 2
    assert "--explain is for one user" in err
