"""What the routes answer, against the recommender itself."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fixture_bundles import FIXTURES

from serve import Rules, Variety, open_bundle
from serve.runtime.rankings import Ranking
from serve.runtime.recommender import Recommender

from .conftest import Service, app_client

# Lists that were computed together differ from single ones by the rounding of float32 sums.
TOLERANCE = 1e-5


@pytest.fixture
def served(bundle_path: Path) -> Recommender:
    return Recommender.load(bundle_path, "cpu", threads=1)


def ask(bundle: Path, path: str, body: dict[str, Any]) -> Any:
    async def post() -> Any:
        async with app_client(bundle) as client:
            response = await client.post(path, json=body)
            assert response.status_code == 200, response.text
            assert response.headers["x-model-version"] == response.json()["model_version"]
            return response.json()

    return asyncio.run(post())


def check_items(found: list[dict[str, Any]], expected: Ranking, served: Recommender) -> None:
    check_ranked(found, expected, served)
    ratings = [item["rating"] for item in found]
    if expected.ratings is None:
        assert ratings == [None] * len(found)
    else:
        np.testing.assert_allclose(ratings, expected.ratings[: expected.count], atol=TOLERANCE)


def check_ranked(found: list[dict[str, Any]], expected: Ranking, served: Recommender) -> None:
    n = expected.count
    assert [item["item_id"] for item in found] == expected.item_ids[:n].tolist()
    np.testing.assert_allclose([item["score"] for item in found], expected.scores[:n], atol=TOLERANCE)
    titles = [served.items[index].title for index in expected.item_indices[:n].tolist()]
    assert [item["title"] for item in found] == titles


def ids(served: Recommender) -> tuple[Any, list[Any]]:
    """A user, and three items."""
    return served.users.one_id(3), [served.items.ids.one_id(index) for index in (2, 5, 9)]


OPTIONS = [
    {},
    {"top_k": 1},
    {"exclude_seen": False},
    {"exclude_seen": False, "top_k": 50},
    {"unknown": "error"},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_recommend(bundle_path: Path, served: Recommender, options: dict[str, Any]) -> None:
    user, items = ids(served)
    for more in ({}, {"exclude_item_ids": items}):
        found = ask(bundle_path, "/v1/recommend", {"user_id": user, **options, **more})
        assert (found["user_id"], found["known"]) == (user, True)
        assert found["model_version"] == served.bundle.version
        check_items(found["items"], served.recommend(user, **{"top_k": 10, **options, **more}), served)
    if options.get("unknown") != "error":
        stranger = "nobody" if served.users.is_string else 7
        found = ask(bundle_path, "/v1/recommend", {"user_id": stranger, **options})
        assert found["known"] is False
        check_items(found["items"], served.recommend(stranger, **{"top_k": 10, **options}), served)


def test_score(bundle_path: Path, served: Recommender) -> None:
    user, items = ids(served)
    unknown = "nothing" if served.items.ids.is_string else 7
    items = [*items, unknown]
    found = ask(bundle_path, "/v1/score", {"user_id": user, "item_ids": items})
    expected = served.score(user, items)
    assert [row["item_id"] for row in found["scores"]] == items
    assert [row["known"] for row in found["scores"]] == expected.known.tolist() == [True, True, True, False]
    np.testing.assert_allclose([row["score"] for row in found["scores"]], expected.scores, atol=TOLERANCE)


def test_similar_items(bundle_path: Path, served: Recommender) -> None:
    _, items = ids(served)
    found = ask(bundle_path, "/v1/similar-items", {"item_id": items[0], "top_k": 5})
    assert found["item_id"] == items[0]
    check_ranked(found["items"], served.similar_items(items[0], 5), served)
    assert set(found["items"][0]) == {"item_id", "title", "score"}


@pytest.mark.parametrize("bundle", ["dot", "dot-bias", "dot-bias-string-ids", "parts", "ranking"])
@pytest.mark.parametrize("ratings", [[], [5], [5, 0.5, 3]])
def test_fold_in(bundle: str, ratings: list[float]) -> None:
    path = FIXTURES / bundle
    served = Recommender.load(path, "cpu", threads=1)
    items = ids(served)[1][: len(ratings)]
    rated = [{"item_id": item, "rating": rating} for item, rating in zip(items, ratings, strict=True)]
    found = ask(path, "/v1/fold-in", {"ratings": rated, "top_k": 7})
    check_items(found["items"], served.fold_in(items, ratings, 7), served)


# Over a socket


def test_items_are_found(service: Service) -> None:
    with service.client() as client:
        found = client.get("/v1/items", params={"query": "movie 4", "limit": 3}).json()
        assert found["items"][0] == {
            "item_id": 1004,
            "title": "Movie 4, The (1954)",
            "genres": ["Sci-Fi", "Thriller"],
            "year": 1954,
        }
        assert len(found["items"]) == 3
        assert client.get("/v1/items", params={"query": "1005"}).json()["items"][0]["item_id"] == 1005
        assert client.get("/v1/items", params={"query": "nothing such"}).json()["items"] == []


def test_the_card(service: Service) -> None:
    with service.client() as client:
        card = client.get("/v1/model").json()
    assert (card["kind"], card["n_users"], card["n_items"], card["device"]) == ("dot-bias", 30, 50, "cpu")
    assert card["id_types"] == {"user_id": "integer", "item_id": "integer"}
    assert card["conformance_cases"] >= 4
    assert card["largest_top_k"]["recommend"] == 50


@pytest.mark.parametrize("bundle", ["parts", "ranking"])
def test_the_card_says_what_scores_are(bundle: str) -> None:
    model = open_bundle(FIXTURES / bundle).manifest.model

    async def get() -> Any:
        async with app_client(FIXTURES / bundle) as client:
            return (await client.get("/v1/model")).json()

    card = asyncio.run(get())
    assert (card["scores"], card["lists"]) == ("ratings" if bundle == "parts" else "ranking", "ranking")
    assert [(part["kind"], part["weight"]) for part in card["parts"]] == [
        (part.kind, part.weight) for part in model.parts
    ]


def test_health(service: Service) -> None:
    with service.client() as client:
        assert client.get("/health/live").json() == {"status": "live"}
        ready = client.get("/health/ready")
        version = client.get("/v1/model").json()["model_version"]
        heads = [client.head(path) for path in ("/health/live", "/health/ready")]
    assert [(head.status_code, head.content) for head in heads] == [(200, b"")] * 2
    assert ready.json() == {"status": "ready", "model_version": version, "device": "cpu", "last_error": None}


def test_metrics_count_routes_and_statuses(service: Service) -> None:
    def count(text: str, labels: str) -> float:
        name = f"recsys_http_requests_total{{{labels}}} "
        return sum(float(line.split()[-1]) for line in text.splitlines() if line.startswith(name))

    good = 'method="POST",route="/v1/recommend",status="200"'
    bad = 'method="POST",route="/v1/recommend",status="422"'
    with service.client() as client:
        before = client.get("/metrics").text
        for _ in range(3):
            client.post("/v1/recommend", json={"user_id": 10})
        client.post("/v1/recommend", json={"user_id": 10, "top_k": 0})
        client.get("/v1/recommend/of/a/thousand/names")
        after = client.get("/metrics").text
        version = client.get("/health/ready").json()["model_version"]
    assert count(after, good) - count(before, good) == 3
    assert count(after, bad) - count(before, bad) == 1
    assert "thousand" not in after
    assert f'recsys_model_loaded_timestamp_seconds{{device="cpu",version="{version}"}}' in after


def test_rules_are_those_of_the_recommender() -> None:
    bundle = FIXTURES.with_name("raw_id_bundles") / "parts"
    served = Recommender.load(bundle, "cpu", threads=1)
    user, items = ids(served)
    rules = {
        "categories": ["Comedy", "Drama"],
        "not_categories": ["Thriller"],
        "deny": items,
        "min_ratings": 3,
        "numbers": {"price": [None, 25.5]},
    }
    found = ask(bundle, "/v1/recommend", {"user_id": user, "rules": {**rules, "min_year": 1960}})
    check_items(found["items"], served.recommend(user, rules=Rules(**rules, min_year=1960)), served)
    ratings = [{"item_id": items[0], "rating": 5}]
    found = ask(bundle, "/v1/fold-in", {"ratings": ratings, "rules": {**rules, "max_year": 1990}})
    check_items(found["items"], served.fold_in(items[:1], [5], rules=Rules(**rules, max_year=1990)), served)


@pytest.mark.parametrize(
    ("bundle", "rules", "told"),
    [
        ("raw_id_bundles/parts", {"categories": ["Dramma"]}, "no category 'Dramma'. There are 'Drama'"),
        ("raw_id_bundles/parts", {"genres": ["Drama"]}, "Extra inputs"),
        ("raw_id_bundles/parts", {"numbers": {"price": ["1", None]}}, "valid number"),
        ("raw_id_bundles/parts", {"numbers": {"price": [1]}}, "price"),
        ("raw_id_bundles/parts", {"numbers": {"cost": [1, None]}}, "no number 'cost'"),
        ("bundles/parts", {"categories": ["Drama"]}, "--filtered"),
    ],
)
def test_rules_that_are_refused(bundle: str, rules: dict[str, Any], told: str) -> None:
    async def post() -> Any:
        async with app_client(FIXTURES.parent / bundle) as client:
            return await client.post("/v1/recommend", json={"user_id": 10, "rules": rules})

    response = asyncio.run(post())
    assert response.status_code == 422
    assert told in response.text


def test_variety_and_reasons_are_those_of_the_recommender() -> None:
    bundle = FIXTURES.with_name("raw_id_bundles") / "parts"
    served = Recommender.load(bundle, "cpu", threads=1)
    user, items = ids(served)
    weights = {"diversity": 0.6, "surprise": -0.2, "max_per_category": 2}
    found = ask(bundle, "/v1/recommend", {"user_id": user, "variety": weights, "explain": True})
    expected = served.recommend(user, variety=Variety(**weights), reasons=True)
    check_items(found["items"], expected, served)
    check_reasons(found["items"], expected)
    ratings = [{"item_id": item, "rating": 4} for item in items]
    found = ask(bundle, "/v1/fold-in", {"ratings": ratings, "variety": {"diversity": 1}, "explain": True})
    expected = served.fold_in(items, [4, 4, 4], variety=Variety(diversity=1), reasons=True)
    check_items(found["items"], expected, served)
    check_reasons(found["items"], expected)
    assert "reasons" not in ask(bundle, "/v1/recommend", {"user_id": user, "explain": False})["items"][0]


def check_reasons(found: list[dict[str, Any]], expected: Ranking) -> None:
    assert expected.reasons is not None
    for place, item in enumerate(found):
        told = expected.reasons.described(place)
        assert item["reasons"]["because"] == told["because"]
        assert item["reasons"]["explained_score"] == pytest.approx(told["explained_score"])


@pytest.mark.parametrize(
    ("bundle", "asked", "told"),
    [
        ("bundles/parts", {"explain": True}, "--explain"),
        ("bundles/mlp", {"explain": True}, "no reasons"),
        ("bundles/parts", {"explain": 1}, "explain"),
        ("bundles/parts", {"variety": {"diversity": 1.01}}, "variety.diversity"),
        ("bundles/parts", {"variety": {"diversity": "0.5"}}, "variety.diversity"),
        ("bundles/parts", {"variety": {"surprise": -2}}, "variety.surprise"),
        ("bundles/parts", {"variety": {"max_per_category": 0}}, "variety.max_per_category"),
        ("bundles/parts", {"variety": {"max_per_category": 1.5}}, "variety.max_per_category"),
        ("bundles/parts", {"variety": {"weight": 1}}, "Extra inputs"),
        ("bundles/parts", {"diversity": 0.5}, "Extra inputs"),
    ],
)
def test_variety_and_reasons_that_are_refused(bundle: str, asked: dict[str, Any], told: str) -> None:
    async def post() -> Any:
        async with app_client(FIXTURES.parent / bundle) as client:
            return await client.post("/v1/recommend", json={"user_id": 10, **asked})

    response = asyncio.run(post())
    assert response.status_code == 422
    assert told in response.text
