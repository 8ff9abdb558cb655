"""Everything that is refused: one shape of error, an id, the right status, no internals."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fixture_bundles import FIXTURES
from patience import PATIENCE

from serve.http.settings import ServiceSettings

from .conftest import Service, app_client

LIMIT = ServiceSettings(bundle=Path()).max_body_bytes
JSON = {"content-type": "application/json"}


@pytest.fixture(scope="module")
def client(service: Service) -> Iterator[httpx.Client]:
    with service.client() as opened:
        yield opened


def problem(response: httpx.Response, status: int, code: str) -> str:
    """The message of an error that has the one shape."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    assert set(response.json()) == {"error"}
    error = response.json()["error"]
    assert set(error) == {"id", "code", "message", "details"}
    assert re.fullmatch("[0-9a-f]{16}", error["id"])
    assert error["code"] == code
    assert "x-model-version" in response.headers
    assert not re.search(r"Traceback|\.py|/tests/|site-packages", response.text)
    message: str = error["message"]
    return message


@pytest.mark.parametrize(
    ("path", "body", "message"),
    [
        ("recommend", {}, "user_id: Field required"),
        ("recommend", {"user_id": "10"}, r"user_id must be an integer \(int64\), got '10'"),
        ("recommend", {"user_id": 10.0}, "user_id: .*an id must be an integer .*got 10.0"),
        ("recommend", {"user_id": True}, "user_id: .*an id must be an integer"),
        ("recommend", {"user_id": None}, "user_id: .*an id must be an integer"),
        ("recommend", {"user_id": [10]}, "user_id: .*an id must be an integer"),
        ("recommend", {"user_id": 1 << 63}, "user_id: .*an id must be an integer"),
        ("recommend", {"user_id": 10, "top_k": 0}, "top_k: .*greater than or equal to 1 .*got 0"),
        ("recommend", {"user_id": 10, "top_k": 51}, "top_k must lie in 1 to 50"),
        ("recommend", {"user_id": 10, "top_k": 10**30}, "top_k: .*less than or equal to 1000"),
        ("recommend", {"user_id": 10, "top_k": 2.5}, "top_k: .*valid integer"),
        ("recommend", {"user_id": 10, "topk": 5}, "topk: Extra inputs are not permitted"),
        ("recommend", {"user_id": 10, "unknown": "guess"}, "unknown: .*'average' or 'error'"),
        ("recommend", {"user_id": 10, "exclude_seen": "no"}, "exclude_seen: .*boolean"),
        ("recommend", {"user_id": 10, "exclude_item_ids": [1] * 1001}, "exclude_item_ids: .*1000 items"),
        ("recommend", {"user_id": 10, "exclude_item_ids": ["x"]}, "item_id must be an integer"),
        ("recommend", [], "body: Input should be an object"),
        ("score", {"user_id": 10, "item_ids": []}, "item_ids: .*at least 1 item"),
        ("score", {"user_id": 10, "item_ids": [1] * 1001}, "item_ids: .*at most 1000"),
        ("fold-in", {"ratings": [{"item_id": 1001, "rating": 9}]}, "ratings must lie in 0.5 to 5"),
        ("fold-in", {"ratings": [{"item_id": 1001, "rating": "5"}]}, "rating: .*valid number"),
        ("fold-in", {"ratings": [{"item_id": 1001, "rating": 5}] * 2}, "rated more than once"),
        ("fold-in", {"ratings": [{"item_id": 1001, "rating": 5}] * 1001}, "at most 1000"),
        ("similar-items", {"item_id": 1001, "top_k": 51}, "top_k must lie in 1 to 50"),
    ],
)
def test_requests_that_are_wrong(client: httpx.Client, path: str, body: Any, message: str) -> None:
    assert re.search(message, problem(client.post(f"/v1/{path}", json=body), 422, "invalid_request"))


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("recommend", {"user_id": 7, "unknown": "error"}),
        ("score", {"user_id": 10, "item_ids": [1001, 7], "unknown": "error"}),
        ("similar-items", {"item_id": 7}),
        ("fold-in", {"ratings": [{"item_id": 7, "rating": 5}]}),
    ],
)
def test_ids_that_are_not_there(client: httpx.Client, path: str, body: Any) -> None:
    assert "7 is not in this bundle" in problem(client.post(f"/v1/{path}", json=body), 404, "unknown_id")


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_numbers_that_are_none(client: httpx.Client, number: str) -> None:
    body = f'{{"ratings": [{{"item_id": 1001, "rating": {number}}}]}}'
    response = client.post("/v1/fold-in", content=body, headers=JSON)
    assert response.status_code in (400, 422)
    problem(response, response.status_code, response.json()["error"]["code"])
    for name in ("user_id", "top_k"):
        body = json.dumps({"user_id": 10, "top_k": 5, name: 0}).replace(f'"{name}": 0', f'"{name}": {number}')
        assert client.post("/v1/recommend", content=body, headers=JSON).status_code in (400, 422)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"nonsense",
        b'{"user_id": 10} {}',
        b"\xff\xfe",
        b'{"user_id": ' + b"9" * 5000 + b"}",
        b"[" * 50_000,
        b'{"user_id": ' * 5_000,
        b'{"user_id": "\\ud800"}',
        b'{"\\ud800": 1, "user_id": 10}',
    ],
    ids=lambda body: body[:16],
)
def test_bodies_that_are_no_json(client: httpx.Client, body: bytes) -> None:
    response = client.post("/v1/recommend", content=body, headers=JSON)
    assert response.status_code in (400, 422)
    problem(response, response.status_code, "bad_json" if response.status_code == 400 else "invalid_request")


@pytest.mark.parametrize(
    "kind", [None, "text/plain", "application/x-www-form-urlencoded", "multipart/form-data"]
)
def test_other_content_types(client: httpx.Client, kind: str | None) -> None:
    headers = {} if kind is None else {"content-type": kind}
    response = client.post("/v1/recommend", content=b'{"user_id": 10}', headers=headers)
    assert "must be application/json" in problem(response, 415, "unsupported_media_type")
    with_charset = {"content-type": "Application/JSON; charset=utf-8"}
    assert client.post("/v1/recommend", content=b'{"user_id": 10}', headers=with_charset).status_code == 200


@pytest.mark.parametrize("n_bytes", [LIMIT + 1, 4_000_000, 30_000_000])
@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
def test_bodies_that_are_too_large(service: Service, n_bytes: int, chunked: bool) -> None:
    def parts() -> Iterator[bytes]:
        for start in range(0, n_bytes, 10_000):
            yield b" " * min(10_000, n_bytes - start)

    content = parts() if chunked else b" " * n_bytes
    with service.client() as client:
        try:
            response = client.post("/v1/recommend", content=content, headers=JSON)
        except httpx.TransportError:
            # Beyond what we are ready to throw away the connection may be cut before the answer is read.
            assert n_bytes == 30_000_000
        else:
            assert f"{LIMIT} bytes" in problem(response, 413, "body_too_large")
        assert client.get("/health/live").status_code == 200


def test_a_large_body_that_asks_first_is_refused_at_once(service: Service) -> None:
    head = (
        b"POST /v1/recommend HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        b"Content-Length: 9999999999\r\nExpect: 100-continue\r\n\r\n"
    )
    with socket.create_connection(service.address, timeout=PATIENCE) as connection:
        connection.sendall(head)
        assert connection.recv(100).startswith(b"HTTP/1.1 413")


def test_a_body_that_just_fits(client: httpx.Client) -> None:
    body = b'{"user_id": 10}'
    assert client.post("/v1/recommend", content=body.ljust(LIMIT), headers=JSON).status_code == 200
    assert client.post("/v1/recommend", content=body.ljust(LIMIT + 1), headers=JSON).status_code == 413


def test_a_body_that_never_ends() -> None:
    async def endless() -> Any:
        async def parts() -> Any:
            yield b'{"user_id"'
            await asyncio.sleep(PATIENCE)

        async with app_client(FIXTURES / "dot-bias", body_seconds=0.05) as client:
            return await client.post("/v1/recommend", content=parts(), headers=JSON)

    assert "within 0.05 s" in problem(asyncio.run(endless()), 408, "body_timeout")


def test_routes_and_methods_that_do_not_exist(client: httpx.Client) -> None:
    for path in ("/", "/v1", "/v1/", "/v1/nothing", "/docs", "/redoc", "/v1/recommend/"):
        problem(client.post(path, json={}), 404, "not_found")
    for method, path in (("GET", "/v1/recommend"), ("DELETE", "/v1/model"), ("OPTIONS", "/v1/score")):
        response = client.request(method, path, headers=JSON)
        problem(response, 405, "method_not_allowed")
        assert response.headers["allow"]


@pytest.mark.parametrize(
    "query", ["", "limit=5", "query=a&limit=0", "query=a&limit=101", "query=a&limt=5", f"query={'a' * 201}"]
)
def test_searches_that_are_wrong(client: httpx.Client, query: str) -> None:
    problem(client.get(f"/v1/items?{query}"), 422, "invalid_request")


def test_no_other_origin_is_let_in(client: httpx.Client) -> None:
    asked = {"origin": "https://elsewhere.example", "access-control-request-method": "POST"}
    for response in (
        client.options("/v1/recommend", headers=asked),
        client.post("/v1/recommend", json={"user_id": 10}, headers=asked),
        client.get("/health/live", headers=asked),
    ):
        assert not [name for name in response.headers if name.startswith("access-control")]


def test_a_model_that_can_not_fold_in() -> None:
    async def ask() -> Any:
        async with app_client(FIXTURES / "mlp") as client:
            return await client.post("/v1/fold-in", json={"ratings": []})

    assert "no fold_in graph" in problem(asyncio.run(ask()), 422, "unsupported")


def test_our_own_faults_are_told_by_their_id_only(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def ask() -> Any:
        async with app_client(FIXTURES / "dot-bias") as client:
            recommender = client.current.model.recommender  # type: ignore[attr-defined]

            def broken(*arguments: Any, **options: Any) -> None:
                raise OSError("/secret/place is on fire")

            monkeypatch.setattr(recommender, "rank", broken)
            return await client.post("/v1/recommend", json={"user_id": 10})

    with caplog.at_level(logging.ERROR):
        response = asyncio.run(ask())
    message = problem(response, 500, "internal")
    assert "secret" not in response.text
    assert response.json()["error"]["id"] in message
    assert response.json()["error"]["id"] in caplog.text
    assert "/secret/place is on fire" in caplog.text


def test_before_the_model_is_loaded() -> None:
    async def ask() -> list[httpx.Response]:
        async with app_client(FIXTURES / "dot-bias", loaded=False) as client:
            return [
                await client.get("/health/live"),
                await client.get("/health/ready"),
                await client.post("/v1/recommend", json={"user_id": 10}),
                await client.get("/v1/model"),
            ]

    live, ready, *others = asyncio.run(ask())
    assert live.status_code == 200
    assert (ready.status_code, ready.json()["status"]) == (503, "loading")
    for response in others:
        assert response.status_code == 503
        assert response.json()["error"]["code"] == "not_ready"
        assert response.headers["retry-after"] == "1"
        assert "x-model-version" not in response.headers


def test_what_is_not_there_is_said_before_anything_about_its_body(client: httpx.Client) -> None:
    problem(client.post("/v1/nosuch", content=b"x"), 404, "not_found")
    problem(client.post("/v1/model", content=b"x"), 405, "method_not_allowed")


def test_what_is_refused_before_its_route_counts_for_that_route(client: httpx.Client) -> None:
    client.post("/v1/recommend", content=b"x")
    assert re.search(
        r'recsys_http_requests_total\{method="POST",route="/v1/recommend",status="415"\} [1-9]',
        client.get("/metrics").text,
    )
