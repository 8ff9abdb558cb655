"""Refused requests: one shape of error, an id, the right status, no internals."""

from __future__ import annotations

import asyncio
import gzip
import json
import logging
import re
from collections.abc import Iterator
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import httpx
import pytest
from fixture_bundles import FIXTURES
from patience import PATIENCE

from serve.http.model import CurrentModel
from serve.http.settings import ServiceSettings

from .conftest import Service, app_client

LIMIT = ServiceSettings(bundle=Path()).max_body_bytes
JSON = {"content-type": "application/json"}
BODY = b'{"user_id": 10}'


@pytest.fixture(scope="module")
def client(service: Service) -> Iterator[httpx.Client]:
    with service.client() as opened:
        yield opened


def refused(response: httpx.Response, status: int, code: str) -> str:
    """The message of an error that the app answers with."""
    assert "x-model-version" in response.headers
    return message_of(response, status, code)


def message_of(response: httpx.Response, status: int, code: str) -> str:
    """The message of an error of the one shape."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    assert set(response.json()) == {"error"}
    error = response.json()["error"]
    assert set(error) == {"id", "code", "message", "details"}
    assert re.fullmatch("[0-9a-f]{16}", error["id"])
    assert error["code"] == code
    assert not re.search(r"Traceback|\.py|/tests/|site-packages", response.text)
    message: str = error["message"]
    return message


ONE_RATING = {"item_id": 1001, "rating": 5}
LONG = [1] * 1001


@pytest.mark.parametrize(
    ("path", "body", "names"),
    [
        *[
            ("recommend", {"user_id": 10, **wrong}, next(iter(wrong)))
            for wrong in (
                *({"user_id": user} for user in ("10", 10.0, True, None, [10], 1 << 63, "x" * 257)),
                *({"top_k": top_k} for top_k in (0, 51, 10**30, 2.5, "5", True)),
                {"topk": 5},
                {"unknown": "guess"},
                {"exclude_seen": "no"},
                {"exclude_item_ids": LONG},
            )
        ],
        ("recommend", {}, "user_id"),
        ("recommend", {"user_id": 10, "exclude_item_ids": ["x"]}, "item_id"),
        ("recommend", [], "body"),
        ("score", {"user_id": 10, "item_ids": []}, "item_ids"),
        ("score", {"user_id": 10, "item_ids": LONG}, "item_ids"),
        ("fold-in", {"ratings": [{"item_id": 1001, "rating": 9}]}, "rating"),
        ("fold-in", {"ratings": [{"item_id": 1001, "rating": "5"}]}, "rating"),
        ("fold-in", {"ratings": [ONE_RATING] * 2}, "more than once"),
        ("fold-in", {"ratings": [ONE_RATING] * 1001}, "ratings"),
        ("similar-items", {"item_id": 1001, "top_k": 51}, "top_k"),
    ],
)
def test_invalid_requests(client: httpx.Client, path: str, body: Any, names: str) -> None:
    assert names in refused(client.post(f"/v1/{path}", json=body), 422, "invalid_request")


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("recommend", {"user_id": 7, "unknown": "error"}),
        ("score", {"user_id": 10, "item_ids": [1001, 7], "unknown": "error"}),
        ("similar-items", {"item_id": 7}),
        ("fold-in", {"ratings": [{"item_id": 7, "rating": 5}]}),
    ],
)
def test_unknown_ids(client: httpx.Client, path: str, body: Any) -> None:
    assert "7" in refused(client.post(f"/v1/{path}", json=body), 404, "unknown_id")


@pytest.mark.parametrize(
    "body",
    [
        *(b"", b"{", b"nonsense", b'{"user_id": 10} {}', b"\xff\xfe"),
        b'{"user_id": ' + b"9" * 5000 + b"}",
        b"[" * 50_000,
        b'{"user_id": ' * 5_000,
        b'{"user_id": "\\ud800"}',
        b'{"\\ud800": 1, "user_id": 10}',
        *(b'{"user_id": %s}' % number for number in (b"NaN", b"Infinity", b"1e999")),
        *(b'{"user_id": 10, "top_k": %s}' % number for number in (b"NaN", b"-Infinity", b"1e999")),
        *(
            b'{"ratings": [{"item_id": 1001, "rating": %s}]}' % number
            for number in (b"NaN", b"-Infinity", b"1e999")
        ),
    ],
    ids=lambda body: body[:32],
)
def test_malformed_json(client: httpx.Client, body: bytes) -> None:
    route = "fold-in" if b"ratings" in body else "recommend"
    response = client.post(f"/v1/{route}", content=body, headers=JSON)
    assert response.status_code in (400, 422)
    refused(response, response.status_code, "bad_json" if response.status_code == 400 else "invalid_request")


@pytest.mark.parametrize(
    "kind", [None, "text/plain", "application/x-www-form-urlencoded", "multipart/form-data"]
)
def test_other_content_types(client: httpx.Client, kind: str | None) -> None:
    headers = {} if kind is None else {"content-type": kind}
    refused(client.post("/v1/recommend", content=BODY, headers=headers), 415, "unsupported_media_type")
    with_charset = {"content-type": "Application/JSON; charset=utf-8"}
    assert client.post("/v1/recommend", content=BODY, headers=with_charset).status_code == 200


PACKED = gzip.compress(BODY)


def test_compressed_bodies_and_other_encodings(client: httpx.Client) -> None:
    """What no header says, the first bytes may."""
    headers = {**JSON, "content-encoding": "gzip"}
    response = client.post("/v1/recommend", content=PACKED, headers=headers)
    assert "Content-Encoding 'gzip'" in refused(response, 415, "unsupported_media_type")
    response = client.post("/v1/recommend", content=PACKED, headers=JSON)
    assert "gzip" in refused(response, 415, "unsupported_media_type")
    for encoding in ("utf-8-sig", "utf-16"):
        response = client.post("/v1/recommend", content=BODY.decode().encode(encoding), headers=JSON)
        assert "byte order mark" in refused(response, 400, "bad_json")


def test_two_content_types(client: httpx.Client) -> None:
    headers = [("content-type", "application/json"), ("content-type", "text/plain")]
    refused(client.post("/v1/recommend", content=BODY, headers=headers), 415, "unsupported_media_type")


@pytest.mark.parametrize("n_bytes", [LIMIT, LIMIT + 1, 4_000_000, 30_000_000])
@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
def test_large_bodies(service: Service, n_bytes: int, chunked: bool) -> None:
    body = BODY.ljust(n_bytes)
    parts = (body[start : start + 10_000] for start in range(0, n_bytes, 10_000))
    with service.client() as client:
        try:
            response = client.post("/v1/recommend", content=parts if chunked else body, headers=JSON)
        except httpx.TransportError:
            # The connection of a very large body may be cut before the client reads the answer.
            assert n_bytes == 30_000_000
        else:
            if n_bytes == LIMIT:
                assert response.status_code == 200
            else:
                assert str(LIMIT) in refused(response, 413, "body_too_large")
        assert client.get("/health/live").status_code == 200


def test_routes_and_methods_that_do_not_exist(client: httpx.Client) -> None:
    for path in ("/", "/v1", "/v1/", "/v1/nothing", "/docs", "/redoc", "/v1/recommend/"):
        refused(client.post(path, content=b"x"), 404, "not_found")
    for method, path in (("GET", "/v1/recommend"), ("POST", "/v1/model"), ("OPTIONS", "/v1/score")):
        response = client.request(method, path, content=b"x")
        refused(response, 405, "method_not_allowed")
        assert response.headers["allow"]


NO_NUMBERS = ["", "1_0", "5.0", "5e0", "%2B5", "+5", "%205", "5%20", "0x5", "%EF%BC%95", "NaN", "true"]
QUERIES = [
    *("", "limit=5", "query=a&limt=5", f"query={'a' * 1025}", "query=a&query=a", "query=a&limit=5&limit=5"),
    *(f"query=a&limit={limit}" for limit in [*NO_NUMBERS, "0", "101"]),
]


@pytest.mark.parametrize("query", QUERIES)
def test_invalid_searches(client: httpx.Client, query: str) -> None:
    refused(client.get(f"/v1/items?{query}"), 422, "invalid_request")


@pytest.mark.parametrize("value", ["%", "%f", "%zz", "%ff", "%ED%A0%80", "a%C3"])
def test_a_query_that_is_not_percent_encoded(service: Service, value: str) -> None:
    """Sent as it is: httpx would encode it again."""
    connection = HTTPConnection(*service.address, timeout=PATIENCE)
    connection.request("GET", f"/v1/items?query={value}")
    response = connection.getresponse()
    with closing(connection):
        assert response.status == 422
        assert b"not percent-encoded UTF-8" in response.read()


@pytest.mark.parametrize("text", ["1_001", "+1001", "01001_", "1001.0", "0x3E9", "１００１", "1e3"])
def test_only_plain_digits_find_an_integer_id(client: httpx.Client, text: str) -> None:
    found = client.get("/v1/items", params={"query": text}).json()["items"]
    assert 1001 not in [item["item_id"] for item in found]


@pytest.mark.parametrize("route", ["recommend", "score", "similar-items", "fold-in", "model"])
def test_other_routes_take_no_query(client: httpx.Client, route: str) -> None:
    """Options belong into the body: they are not ignored where they are not."""
    method = "GET" if route == "model" else "POST"
    response = client.request(method, f"/v1/{route}?top_k=3", content=BODY, headers=JSON)
    assert "top_k" in refused(response, 422, "invalid_request")


@pytest.mark.parametrize(
    "body",
    [
        b'{"user_id": 10, "user_id": 20}',
        b'{"user_id": 10, "user_id": 10}',
        b'{"user_id": 10, "user\\u005fid": 20}',
        b'{"top_k": 5, "user_id": 10, "top_k": 5}',
        b'{"ratings": [{"item_id": 1001, "rating": 5, "rating": 1}]}',
        b'{"ratings": [], "ratings": [{"item_id": 1001, "rating": 5}]}',
    ],
)
def test_a_field_that_is_there_twice(client: httpx.Client, body: bytes) -> None:
    route = "fold-in" if b"ratings" in body else "recommend"
    response = client.post(f"/v1/{route}", content=body, headers=JSON)
    assert "more than once" in refused(response, 422, "invalid_request")


def test_one_limit_of_top_k(client: httpx.Client) -> None:
    """The K of the bundle, 50 here, and no other."""
    bodies = {"recommend": {"user_id": 10}, "similar-items": {"item_id": 1001}, "fold-in": {"ratings": []}}
    for route, body in bodies.items():
        assert client.post(f"/v1/{route}", json={**body, "top_k": 50}).status_code == 200
        message = refused(client.post(f"/v1/{route}", json={**body, "top_k": 51}), 422, "invalid_request")
        assert "1 to 50, what this bundle ranks" in message
    for name, schema in client.get("/openapi.json").json()["components"]["schemas"].items():
        top_k = schema.get("properties", {}).get("top_k", {})
        assert set(top_k) <= {"type", "minimum", "default", "title", "description"}, name


def test_a_request_that_is_refused_before_its_route_counts_for_that_route(client: httpx.Client) -> None:
    client.post("/v1/recommend", content=b"x")
    assert 'recsys_http_requests_total{method="POST",route="/v1/recommend",status="415"}' in (
        client.get("/metrics").text
    )


# In this process


def ask(path: str, content: Any, bundle: str = "dot-bias", **options: Any) -> httpx.Response:
    async def post() -> httpx.Response:
        async with app_client(FIXTURES / bundle, **options) as client:
            return await client.post(path, content=content, headers=JSON)

    return asyncio.run(post())


@pytest.mark.parametrize(("bundle", "wrong"), [("dot-bias", "10"), ("dot-bias-string-ids", 10)])
def test_an_id_of_the_other_type_is_no_id(bundle: str, wrong: Any) -> None:
    """It is neither converted nor unknown."""
    user_id, item_id = (10, 1001) if bundle == "dot-bias" else ("user-1", "item-1")
    for route, body in (
        ("recommend", {"user_id": wrong}),
        ("recommend", {"user_id": user_id, "exclude_item_ids": [item_id, wrong]}),
        ("score", {"user_id": wrong, "item_ids": [item_id]}),
        ("score", {"user_id": user_id, "item_ids": [item_id, wrong]}),
        ("similar-items", {"item_id": wrong}),
        ("fold-in", {"ratings": [{"item_id": wrong, "rating": 5}]}),
    ):
        message = refused(ask(f"/v1/{route}", json.dumps(body), bundle), 422, "invalid_request")
        assert repr(wrong) in message


def test_a_model_that_can_not_fold_in() -> None:
    refused(ask("/v1/fold-in", b'{"ratings": []}', "mlp"), 422, "unsupported")


def test_an_internal_error_is_reported_by_its_id_only(caplog: pytest.LogCaptureFixture) -> None:
    class Broken:
        """A model whose every part is missing."""

        version = "broken"

    current = CurrentModel()
    current.model = Broken()  # type: ignore[assignment]
    with caplog.at_level(logging.ERROR):
        response = ask("/v1/recommend", BODY, current=current)
    assert response.json()["error"]["id"] in refused(response, 500, "internal")
    assert "Broken" not in response.text
    assert response.json()["error"]["id"] in caplog.text
    assert "'Broken' object has no attribute" in caplog.text


def test_before_the_model_is_loaded() -> None:
    async def ask_all() -> list[httpx.Response]:
        async with app_client(FIXTURES / "dot-bias", current=CurrentModel()) as client:
            posted = await client.post("/v1/recommend", content=json.dumps({"user_id": 10}), headers=JSON)
            return [
                posted,
                *[await client.get(path) for path in ("/v1/model", "/health/ready", "/health/live")],
            ]

    *refusals, ready, live = asyncio.run(ask_all())
    assert live.status_code == 200
    assert (ready.status_code, ready.json()["status"]) == (503, "loading")
    for response in refusals:
        assert response.status_code == 503
        assert response.json()["error"]["code"] == "not_ready"
        assert response.headers["retry-after"] == "1"
        assert "x-model-version" not in response.headers
