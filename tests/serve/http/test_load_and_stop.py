"""Too much load, and the end: what is accepted is answered, the rest is told so at once."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import signal
import socket
import threading
from collections import Counter
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


def test_what_is_not_admitted_is_told_so_and_the_rest_answered() -> None:
    """Seven at once where three are admitted: counted, not timed."""

    async def burst() -> tuple[list[httpx.Response], str, httpx.Response]:
        async with app_client(BUNDLE, max_concurrency=3) as client:
            asks = [client.post("/v1/recommend", json={"user_id": 10}) for _ in range(7)]
            responses = await asyncio.gather(*asks, client.get("/health/ready"))
            metrics = (await client.get("/metrics")).text
            return responses, metrics, await client.post("/v1/recommend", json={"user_id": 10})

    responses, metrics, later = asyncio.run(burst())
    *answers, health = responses
    assert Counter(response.status_code for response in answers) == {200: 3, 503: 4}
    for response in answers:
        if response.status_code == 503:
            assert response.headers["retry-after"] == "1"
            assert response.json()["error"]["code"] == "overloaded"
            assert response.headers["x-model-version"]
    assert health.status_code == 200
    assert later.status_code == 200, "those that were answered still count"
    assert "recsys_http_shed_total 4.0" in metrics


def test_those_that_fail_count_no_longer() -> None:
    async def ask() -> list[int]:
        async with app_client(BUNDLE, max_concurrency=1) as client:
            bodies: list[Any] = [
                {"user_id": "x"},
                {"user_id": 7, "unknown": "error"},
                {},
                {"user_id": 10},
            ] * 3
            return [(await client.post("/v1/recommend", json=body)).status_code for body in bodies]

    assert asyncio.run(ask()) == [422, 404, 422, 200] * 3


def test_overload_over_real_sockets(tmp_path: Path) -> None:
    """64 connections that never pause, two are admitted: every request is answered, 200 or 503."""
    n_connections, n_each = 64, 20

    async def hammer(address: tuple[str, int]) -> Counter[int]:
        async def one() -> list[int]:
            reader, writer = await asyncio.open_connection(*address)
            statuses = []
            for _ in range(n_each):
                head = f"POST /v1/recommend HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(BODY)}\r\n"
                writer.write(head.encode() + b"Content-Type: application/json\r\n\r\n" + BODY)
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

        found = await asyncio.gather(*(one() for _ in range(n_connections)))
        return Counter(itertools.chain.from_iterable(found))

    with running(tmp_path, BUNDLE, "--max-concurrency", "2") as service:
        counts = asyncio.run(hammer(service.address))
        with service.client() as client:
            response = client.post(
                "/v1/recommend", content=BODY, headers={"content-type": "application/json"}
            )
            assert response.status_code == 200
            assert client.get("/health/ready").status_code == 200
            shed = next(
                line
                for line in client.get("/metrics").text.splitlines()
                if line.startswith("recsys_http_shed")
            )
    assert set(counts) == {200, 503}
    assert counts.total() == n_connections * n_each
    assert float(shed.split()[-1]) == counts[503]


def half_a_request(service: Service) -> socket.socket:
    """A request at work: its body is not whole yet."""
    head = (
        f"POST /v1/recommend HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(BODY)}\r\n\r\n"
    )
    connection = socket.create_connection(service.address, timeout=PATIENCE)
    connection.sendall(head.encode() + BODY[:5])
    return connection


def idle_connection(service: Service) -> socket.socket:
    """One that has been answered once; a worker closes it as it begins to stop."""
    connection = socket.create_connection(service.address, timeout=PATIENCE)
    connection.sendall(b"GET /health/ready HTTP/1.1\r\nHost: localhost\r\n\r\n")
    answer = b""
    while not answer.endswith(b"}"):
        answer += connection.recv(65536)
    assert answer.startswith(b"HTTP/1.1 200")
    return connection


@pytest.mark.parametrize("workers", [1, 2])
def test_after_sigterm_it_says_not_ready_and_goes_on_while_load_balancers_notice(
    tmp_path: Path, workers: int
) -> None:
    options = ["--workers", str(workers), "--drain-seconds", "600"]
    with running(tmp_path, BUNDLE, *options) as service, service.client() as client:
        service.signal(signal.SIGTERM)

        def draining() -> bool:
            ready = client.get("/health/ready")
            assert client.post("/v1/recommend", json={"user_id": 10}).status_code == 200
            return ready.status_code == 503 and ready.json()["status"] == "draining"

        wait_until(draining)
        with service.client() as another:
            wait_until(lambda: another.get("/health/ready").status_code == 503)
        service.interrupt()  # who presses Ctrl-C then does not want to wait
        assert service.wait() == 0


@pytest.mark.parametrize("workers", [1, 2])
def test_what_is_at_work_at_the_end_is_finished(tmp_path: Path, workers: int) -> None:
    options = ["--workers", str(workers), "--drain-seconds", "0", "--grace-seconds", "600"]
    with running(tmp_path, BUNDLE, *options) as service, half_a_request(service) as connection:
        workers_then = service.children()
        with idle_connection(service) as idle:
            service.signal(signal.SIGTERM)
            assert idle.recv(1) == b"", "it began to stop"
        assert service.process.poll() is None
        connection.sendall(BODY[5:])
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
        assert answer.startswith(b"HTTP/1.1 200")
        assert b'"items":[' in answer
        assert service.wait() == 0
        assert not [pid for pid in workers_then if Path(f"/proc/{pid}").exists()]


def test_sigterm_twice_is_once(tmp_path: Path) -> None:
    """`timeout` and service managers may signal a process, and then its whole group."""
    options = ["--drain-seconds", "0", "--grace-seconds", "600"]
    with running(tmp_path, BUNDLE, *options) as service, half_a_request(service) as connection:
        with idle_connection(service) as idle:
            service.signal(signal.SIGTERM)
            assert idle.recv(1) == b"", "it began to stop"
        os.killpg(service.process.pid, signal.SIGTERM)
        connection.sendall(BODY[5:])
        assert connection.recv(65536).startswith(b"HTTP/1.1 200")
        assert service.wait() == 0


def test_a_client_that_never_finishes_does_not_hold_it_up(tmp_path: Path) -> None:
    options = ["--drain-seconds", "0", "--grace-seconds", "1"]
    with running(tmp_path, BUNDLE, *options) as service, half_a_request(service):
        with service.client() as client:
            assert client.get("/health/ready").status_code == 200
        service.signal(signal.SIGTERM)
        assert service.wait() == 0


def test_what_the_grace_time_cuts_off_is_told_so(tmp_path: Path) -> None:
    options = ["--drain-seconds", "0", "--grace-seconds", "1"]
    with running(tmp_path, BUNDLE, *options) as service, half_a_request(service) as connection:
        with service.client() as client:
            assert client.get("/health/ready").status_code == 200
        service.signal(signal.SIGTERM)
        head, _, body = b"".join(iter(lambda: connection.recv(4096), b"")).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 503 ")
        assert json.loads(body)["error"]["code"] == "stopping"
        assert service.wait() == 0
        assert "Traceback" not in service.log()


def test_clients_that_heed_readiness_see_no_failure(tmp_path: Path) -> None:
    """As behind a load balancer: they ask all the time, until /health/ready says that they should not."""
    statuses: list[int] = []
    failures: list[BaseException] = []

    def ask(service: Service) -> None:
        try:
            with service.client() as client:
                while client.get("/health/ready").status_code == 200:
                    statuses.append(client.post("/v1/recommend", json={"user_id": 10}).status_code)
        except BaseException as error:  # noqa: BLE001  told below
            failures.append(error)

    with running(tmp_path, BUNDLE, "--drain-seconds", "600") as service:
        threads = [threading.Thread(target=ask, args=[service]) for _ in range(4)]
        for thread in threads:
            thread.start()
        wait_until(lambda: len(statuses) > 20)
        service.signal(signal.SIGTERM)
        for thread in threads:
            thread.join()
        assert service.process.poll() is None
        service.interrupt()
        assert service.wait() == 0
    assert failures == []
    assert set(statuses) == {200}


def test_workers_do_not_outlive_a_killed_supervisor(tmp_path: Path) -> None:
    with running(tmp_path, BUNDLE, "--workers", "2") as service:
        workers = service.children()
        environment = Path(f"/proc/{workers[0]}/environ").read_bytes().split(b"\0")
        (scratch,) = (
            entry.partition(b"=")[2] for entry in environment if entry.startswith(FOLDER_VARIABLE.encode())
        )
        assert Path(scratch.decode()).is_dir()
        service.process.kill()
        service.process.wait()
        wait_until(lambda: not [pid for pid in workers if Path(f"/proc/{pid}").exists()])
        assert not Path(scratch.decode()).exists()


def test_clients_that_leave_make_no_noise(tmp_path: Path) -> None:
    body = b'{"user_id": 10}'
    head = b"POST /v1/recommend HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    request = head + b"Content-Length: %d\r\n\r\n" % len(body) + body
    with running(tmp_path, BUNDLE) as service:
        for _ in range(40):
            with socket.create_connection(service.address) as client:
                client.sendall(request)
        with service.client() as client:
            assert client.post("/v1/recommend", json={"user_id": 10}).status_code == 200
        service.signal(signal.SIGTERM)
        assert service.wait() == 0
        assert "Traceback" not in service.log()


def test_slow_clients_keep_nobody_out(tmp_path: Path) -> None:
    """Neither those whose bodies have not come, nor those that do not read their answers."""
    with running(tmp_path, BUNDLE, "--max-concurrency", "1") as service, ExitStack() as clients:
        for _ in range(5):
            clients.enter_context(half_a_request(service))
        body = json.dumps({"user_id": 10, "item_ids": 1000 * [1001]}).encode()
        head = (
            f"POST /v1/score HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        )
        deaf = clients.enter_context(socket.socket())
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        deaf.connect(service.address)
        deaf.setblocking(False)
        with suppress(BlockingIOError):
            for _ in range(10_000):
                deaf.sendall(head.encode() + body)
        with service.client() as client:

            def answers() -> bool:
                return client.post("/v1/recommend", json={"user_id": 10}).status_code == 200

            # The deaf one is served until nothing more fits into its connection.
            wait_until(lambda: all(answers() for _ in range(20)))
