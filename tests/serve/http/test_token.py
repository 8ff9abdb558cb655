"""With a token set, every route but health asks for it; without, none."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fixture_bundles import FIXTURES

from .conftest import Service, app_client, running

TOKEN = "a-token-of-some-length"
ROUTES = [
    ("POST", "/v1/recommend", {"user_id": 10}),
    ("POST", "/v1/score", {"user_id": 10, "item_ids": [1001]}),
    ("POST", "/v1/similar-items", {"item_id": 1001}),
    ("POST", "/v1/fold-in", {"ratings": []}),
    ("GET", "/v1/items?query=movie", None),
    ("GET", "/v1/model", None),
    ("GET", "/metrics", None),
    ("GET", "/openapi.json", None),
]
WRONG = [None, "", "Bearer", "Bearer x", f"Bearer {TOKEN}x", f"Bearer {TOKEN[:-1]}", f"Basic {TOKEN}", TOKEN]


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    folder = tmp_path_factory.mktemp("guarded")
    with running(folder, FIXTURES / "dot-bias", token=TOKEN) as service:
        yield service


def ask(client: httpx.Client, method: str, path: str, body: Any, header: str | None) -> httpx.Response:
    headers = {} if header is None else {"authorization": header}
    return client.request(method, path, json=body, headers=headers)


@pytest.mark.parametrize(("method", "path", "body"), ROUTES, ids=lambda part: str(part)[:20])
def test_every_route_asks_for_it(guarded: Service, method: str, path: str, body: Any) -> None:
    with guarded.client() as client:
        for header in WRONG:
            response = ask(client, method, path, body, header)
            assert response.status_code == 401, header
            assert response.headers["www-authenticate"] == "Bearer"
            assert response.json()["error"]["code"] == "unauthorized"
        assert ask(client, method, path, body, f"Bearer {TOKEN}").status_code == 200
        assert ask(client, method, path, body, f"bearer  {TOKEN}").status_code == 200


def test_no_route_was_forgotten(guarded: Service) -> None:
    with guarded.client() as client:
        document = ask(client, "GET", "/openapi.json", None, f"Bearer {TOKEN}").json()
    tested = {(method, path.split("?")[0]) for method, path, _ in ROUTES} - {("GET", "/openapi.json")}
    found = {(m.upper(), path) for path, methods in document["paths"].items() for m in methods}
    assert found - tested == {("GET", "/health/live"), ("GET", "/health/ready")}
    for path, methods in document["paths"].items():
        for operation in methods.values():
            assert operation["security"] == ([] if path.startswith("/health/") else [{"token": []}])


def test_other_requests(guarded: Service) -> None:
    """Unknown paths are refused too; of two headers, a proxy may have checked the other one."""
    right = ("authorization", f"Bearer {TOKEN}")
    with guarded.client() as client:
        for path in ("/", "/nothing", "/v1/nothing", "/health", "/health/", "/health/other", "//health/live"):
            assert client.get(path).status_code == 401, path
        for headers in ([right, right], [right, ("authorization", "Bearer x")]):
            assert client.get("/v1/model", headers=headers).status_code == 401
        for path in ("/health/live", "/health/ready"):
            assert client.get(path).status_code == 200


def test_the_token_is_secret(guarded: Service) -> None:
    for pid in [guarded.process.pid, *guarded.children()]:
        assert TOKEN not in Path(f"/proc/{pid}/cmdline").read_text()
    assert TOKEN not in guarded.log()


def test_without_a_token_no_route_asks() -> None:
    async def statuses() -> list[int]:
        async with app_client(FIXTURES / "dot-bias") as client:
            return [
                (await client.request(method, path, json=body)).status_code for method, path, body in ROUTES
            ]

    assert asyncio.run(statuses()) == [200] * len(ROUTES)
