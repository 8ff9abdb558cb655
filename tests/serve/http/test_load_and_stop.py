"""Too much load, and the stop: admitted requests are answered, the others are refused at once."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import signal
import socket
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from fixture_bundles import FIXTURES
from patience import PATIENCE, wait_until

from serve.http.metrics import FOLDER_VARIABLE

from .conftest import Service, app_client, running

BUNDLE = FIXTURES / "dot-bias"
BODY = b'{"user_id": 10}'


def request(body: bytes = BODY, route: str = "recommend") -> bytes:
    head = f"POST /v1/{route} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


def test_requests_that_are_not_admitted_are_refused_and_the_others_answered() -> None:
    """Seven at once, three admitted: counted, not timed."""

    async def burst() -> tuple[list[httpx.Response], str, list[int]]:
        async with app_client(BUNDLE, max_concurrency=3) as client:
            asks = [client.post("/v1/recommend", json={"user_id": 10}) for _ in range(7)]
            responses = await asyncio.gather(*asks, client.get("/health/ready"))
            metrics = (await client.get("/metrics")).text
            bodies: list[Any] = [
                {"user_id": "x"},
                {"user_id": 7, "unknown": "error"},
                {},
                {"user_id": 10},
            ] * 3
            later = [(await client.post("/v1/recommend", json=body)).status_code for body in bodies]
            return responses, metrics, later

    responses, metrics, later = asyncio.run(burst())
    *answers, health = responses
    assert Counter(response.status_code for response in answers) == {200: 3, 503: 4}
    for response in answers:
        if response.status_code == 503:
            assert response.headers["retry-after"] == "1"
            assert response.json()["error"]["code"] == "overloaded"
            assert response.headers["x-model-version"]
    assert health.status_code == 200
    assert "recsys_http_shed_total 4.0" in metrics
    assert later == [422, 404, 422, 200] * 3, "requests that were answered still count"


@pytest.fixture(scope="module")
def narrow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service that admits one request at a time."""
    with running(tmp_path_factory.mktemp("narrow"), BUNDLE, "--max-concurrency", "1") as service:
        yield service


def test_overload_over_real_sockets(narrow: Service) -> None:
    """64 connections that never pause: every request is answered, 200 or 503."""
    n_connections, n_each = 64, 20

    async def one() -> list[int]:
        reader, writer = await asyncio.open_connection(*narrow.address)
        statuses = []
        for _ in range(n_each):
            writer.write(request())
            answer = await reader.readuntil(b"\r\n\r\n")
            lines = answer.decode().lower().split("\r\n")
            headers = dict(line.split(": ", 1) for line in lines[1:] if line)
            content = json.loads(await reader.readexactly(int(headers["content-length"])))
            status = int(lines[0].split()[1])
            if status == 200:
                assert len(content["items"]) == 10
            else:
                assert content["error"]["code"] == "overloaded"
                assert headers["retry-after"] == "1"
            statuses.append(status)
        writer.close()
        await writer.wait_closed()
        return statuses

    async def hammer() -> Counter[int]:
        found = await asyncio.gather(*(one() for _ in range(n_connections)))
        return Counter(itertools.chain.from_iterable(found))

    counts = asyncio.run(hammer())
    with narrow.client() as client:
        assert client.post("/v1/recommend", json={"user_id": 10}).status_code == 200
        assert client.get("/health/ready").status_code == 200
    assert set(counts) == {200, 503}
    assert counts.total() == n_connections * n_each


def half_a_request(service: Service) -> socket.socket:
    """A request in progress: a part of its body is missing."""
    connection = socket.create_connection(service.address, timeout=PATIENCE)
    connection.sendall(request()[:-5])
    return connection


def idle_connection(service: Service) -> socket.socket:
    """A connection after one answer; a worker closes it when it begins to stop."""
    connection = socket.create_connection(service.address, timeout=PATIENCE)
    connection.sendall(b"GET /health/ready HTTP/1.1\r\nHost: localhost\r\n\r\n")
    answer = b""
    while not answer.endswith(b"}"):
        answer += connection.recv(65536)
    assert answer.startswith(b"HTTP/1.1 200")
    return connection


def test_slow_clients_do_not_count_as_load(narrow: Service) -> None:
    """Neither clients that send slowly, nor clients that do not read their answers."""
    with ExitStack() as clients:
        for _ in range(5):
            clients.enter_context(half_a_request(narrow))
        body = json.dumps({"user_id": 10, "item_ids": 1000 * [1001]}).encode()
        deaf = clients.enter_context(socket.socket())
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        deaf.connect(narrow.address)
        deaf.setblocking(False)
        with suppress(BlockingIOError):
            for _ in range(10_000):
                deaf.sendall(request(body, "score"))
        with narrow.client() as client:

            def answers() -> bool:
                return client.post("/v1/recommend", json={"user_id": 10}).status_code == 200

            # The server answers the deaf client until its connection is full.
            wait_until(lambda: all(answers() for _ in range(20)))


def test_clients_that_heed_readiness_see_no_failure(tmp_path: Path) -> None:
    """Like a load balancer, they send requests until /health/ready says 503."""
    statuses: list[int] = []
    failures: list[BaseException] = []

    def ask(service: Service) -> None:
        try:
            with service.client() as client:
                while client.get("/health/ready").status_code == 200:
                    statuses.append(client.post("/v1/recommend", json={"user_id": 10}).status_code)
                assert client.get("/health/ready").json()["status"] == "draining"
                statuses.append(client.post("/v1/recommend", json={"user_id": 10}).status_code)
        except BaseException as error:  # noqa: BLE001  checked below
            failures.append(error)

    with running(tmp_path, BUNDLE, "--workers", "2", "--drain-seconds", "600") as service:
        threads = [threading.Thread(target=ask, args=[service]) for _ in range(4)]
        for thread in threads:
            thread.start()
        wait_until(lambda: len(statuses) > 20)
        service.signal(signal.SIGTERM)
        for thread in threads:
            thread.join()
        assert service.process.poll() is None
        service.interrupt()  # Ctrl-C ends the drain time
        assert service.wait() == 0
    assert failures == []
    assert set(statuses) == {200}


@pytest.mark.slow
def test_requests_in_progress_are_finished_and_a_second_sigterm_has_no_effect(tmp_path: Path) -> None:
    """`timeout` and service managers may signal a process, and then its whole group."""
    options = ["--workers", "2", "--drain-seconds", "0", "--grace-seconds", "600"]
    with running(tmp_path, BUNDLE, *options) as service, half_a_request(service) as connection:
        workers = service.children()
        with idle_connection(service) as idle:
            service.signal(signal.SIGTERM)
            assert idle.recv(1) == b"", "it began to stop"
        os.killpg(service.process.pid, signal.SIGTERM)
        assert service.process.poll() is None
        connection.sendall(BODY[-5:])
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
        assert answer.startswith(b"HTTP/1.1 200")
        assert b'"items":[' in answer
        assert service.wait() == 0
        assert not [pid for pid in workers if Path(f"/proc/{pid}").exists()]


@pytest.mark.slow
def test_a_request_that_exceeds_the_grace_time_gets_503(tmp_path: Path) -> None:
    """Neither that nor clients that leave are errors in the log."""
    options = ["--drain-seconds", "0", "--grace-seconds", "1"]
    with running(tmp_path, BUNDLE, *options) as service, half_a_request(service) as connection:
        for _ in range(40):
            with socket.create_connection(service.address) as leaving:
                leaving.sendall(request())
        idle_connection(service).close()  # the worker has accepted the first one, too
        service.signal(signal.SIGTERM)
        head, _, body = b"".join(iter(lambda: connection.recv(4096), b"")).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 503 ")
        assert json.loads(body)["error"]["code"] == "stopping"
        assert service.wait() == 0
        assert "Traceback" not in service.log()


@pytest.mark.slow
def test_workers_do_not_outlive_a_killed_supervisor(tmp_path: Path) -> None:
    with running(tmp_path, BUNDLE, "--workers", "2") as service:
        workers = service.children()
        environment = Path(f"/proc/{workers[0]}/environ").read_text().split("\0")
        (scratch,) = (Path(entry.partition("=")[2]) for entry in environment if FOLDER_VARIABLE in entry)
        assert scratch.is_dir()
        service.process.kill()
        service.process.wait()
        wait_until(lambda: not [pid for pid in workers if Path(f"/proc/{pid}").exists()])
        assert not scratch.exists()
