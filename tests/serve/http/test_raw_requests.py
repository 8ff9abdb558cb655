"""Requests as bytes, which no HTTP client would send: each is refused, and leaves no traceback."""

from __future__ import annotations

import select
import socket
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from http.client import HTTPResponse
from urllib.parse import quote_from_bytes

import httpx
import numpy as np
import pytest
from patience import PATIENCE

from .conftest import Service
from .test_load_and_stop import request
from .test_refusals import BODY

GET = b"GET /v1/model HTTP/1.1\r\nHost: localhost\r\n"
POST = b"POST /v1/recommend HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
LENGTH = b"Content-Length: %d\r\n" % len(BODY)
CHUNKED = b"Transfer-Encoding: chunked\r\n"
CHUNKS = b"f\r\n" + BODY + b"\r\n0\r\n\r\n"


@pytest.fixture(scope="module", autouse=True)
def nothing_has_failed(service: Service) -> Iterator[None]:
    yield
    with service.client() as client:
        assert client.get("/health/live").status_code == 200
    assert "Traceback" not in service.log()


@pytest.fixture
def connection(service: Service) -> Iterator[socket.socket]:
    with socket.create_connection(service.address, timeout=PATIENCE) as opened:
        yield opened


def answer(connection: socket.socket) -> httpx.Response:
    with HTTPResponse(connection) as response:
        response.begin()
        return httpx.Response(response.status, headers=response.getheaders(), content=response.read())


def refused(connection: socket.socket) -> None:
    """In plain text by uvicorn, where the bytes are no HTTP; else by the service."""
    assert 400 <= answer(connection).status_code < 500


@pytest.mark.parametrize(
    "value",
    [
        b"9" * 4301,
        *(
            b"",
            b"-15",
            b"+15",
            b"15 15",
            b"1_5",
            b"0x0f",
            b"15.0",
            b"1e1",
            b"\xb2",
            b"NaN",
            b"1" + b"0" * 19,
        ),
    ],
    ids=lambda value: repr(value[:20]),
)
def test_a_length_that_is_no_plain_number(connection: socket.socket, value: bytes) -> None:
    connection.sendall(POST + b"Content-Length: " + value + b"\r\n\r\n" + BODY)
    refused(connection)


@pytest.mark.parametrize(
    "request_",
    [
        POST + LENGTH + b"Content-Length: 16\r\n\r\n" + BODY,
        POST + LENGTH + CHUNKED + b"\r\n" + CHUNKS,
        POST + CHUNKED * 2 + b"\r\n" + CHUNKS,
        *(
            POST + b"Transfer-Encoding: " + coding + b"\r\n\r\n" + CHUNKS
            for coding in (
                b"gzip, chunked",
                b"chunked, chunked",
                b"xchunked",
                b"identity",
                b"chunked, gzip",
                b"",
            )
        ),
        *(
            POST + CHUNKED + b"\r\n" + size + b"\r\n" + BODY
            for size in (b"zz", b"-1", b"+f", b"f" * 17, b"", b"0x0f")
        ),
        *(
            GET + header + b"\r\n\r\n"
            for header in (b"no colon", b"X\xff: a", b": a", b"X: a\0b", b"X: a\rb", b"X : a")
        ),
        *(
            b"GET " + path + b" HTTP/1.1\r\nHost: localhost\r\n\r\n"
            for path in (b"/v1/\xff", b"/v1/items?query=\xe9", b"v1/model", b"", b"/a b", b"?x")
        ),
        *(
            line + b"\r\nHost: localhost\r\n\r\n"
            for line in (b"BREW / HTTP/1.1", b"get / HTTP/1.1", b"GET / HTTP/9.9")
        ),
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(300),
    ],
    ids=lambda request: repr(request[-60:]),
)
def test_malformed_requests(connection: socket.socket, request_: bytes) -> None:
    connection.sendall(request_)
    refused(connection)


@pytest.mark.parametrize(
    "request_",
    [
        POST + LENGTH * 2 + b"\r\n" + BODY,
        POST + b"Content-Length: 15, 15\r\n\r\n" + BODY,
        GET + b"X: a\r\n folded\r\n\r\n",
    ],
    ids=["twice the same length", "lengths in a list", "folded"],
)
def test_what_the_standard_gives_one_meaning_is_answered(connection: socket.socket, request_: bytes) -> None:
    """RFC 9110, 8.6, and RFC 9112, 5.2."""
    connection.sendall(request_)
    assert answer(connection).status_code == 200


@pytest.mark.parametrize(
    "sent",
    [POST[:-30], POST + b"Content-Length: 16\r\n\r\n" + BODY, POST + CHUNKED + b"\r\n" + CHUNKS[:9]],
    ids=["headers", "length", "chunked"],
)
def test_requests_cut_short_are_not_answered_from(connection: socket.socket, sent: bytes) -> None:
    connection.sendall(sent)
    connection.shutdown(socket.SHUT_WR)
    assert connection.recv(100) == b""


@pytest.mark.parametrize(
    "start", [b"GET /", GET + b"X: ", POST + CHUNKED + b"\r\n0\r\nX: "], ids=["URL", "header", "trailer"]
)
def test_a_head_that_never_ends(connection: socket.socket, start: bytes) -> None:
    """The server answers while there is more to send, and stores nothing more."""
    sent = 0
    connection.sendall(start)
    try:
        while sent < 1 << 26:
            sent += connection.send(b"a" * 10_000)
    except OSError:  # it has closed the connection
        pass
    assert sent < 1 << 26
    assert answer(connection).status_code == 400


def mutated(rng: np.random.Generator, request_: bytes) -> bytes:
    """With some bytes changed, inserted, left out or repeated."""
    data = bytearray(request_)
    for _ in range(rng.integers(1, 4)):
        at, n = int(rng.integers(len(data) + 1)), int(rng.integers(1, 9))
        pieces = [rng.bytes(n), b"\r\n", b"\0", b"%", b'"', b"[" * 300, b"9" * 300, bytes(data[at : at + 40])]
        data[at : at + int(rng.integers(2)) * n] = pieces[rng.integers(len(pieces))]
    return bytes(data)


BODIES = {
    "recommend": b'{"user_id": 10, "top_k": 5, "exclude_item_ids": [1001]}',
    "score": b'{"user_id": 10, "item_ids": [1001, 1002], "unknown": "average"}',
    "similar-items": b'{"item_id": 1001}',
    "fold-in": b'{"ratings": [{"item_id": 1001, "rating": 4.5}], "top_k": 5}',
}


@pytest.mark.nightly
def test_mutated_requests(service: Service, capsys: pytest.CaptureFixture[str]) -> None:
    """Each gets an answer, or the server waits for more; nothing fails."""
    rng, statuses = np.random.default_rng(0), Counter[str]()
    search = b"query=movie%204&limit=5"
    for number in range(20_000):
        route = rng.choice(list(BODIES))
        kind = number % 4
        if kind < 2:
            body = mutated(rng, BODIES[route]) if kind else BODIES[route]
            request_ = request(body, route)
        else:
            query = quote_from_bytes(mutated(rng, search), "%&=") if kind == 2 else search.decode()
            request_ = f"GET /v1/items?{query} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
        sent = mutated(rng, request_) if kind in (0, 3) else request_
        with socket.create_connection(service.address, timeout=PATIENCE) as connection:
            connection.sendall(sent)
            select.select([connection], [], [], 0.05)
            with suppress(OSError):  # what is unread as the server closes is lost
                connection.shutdown(socket.SHUT_WR)
            status = "reset"
            with suppress(ConnectionError):
                status = connection.recv(12).decode()
        assert status[:10] in ("HTTP/1.1 1", "HTTP/1.1 2", "HTTP/1.1 4", "reset", ""), sent
        statuses[status] += 1
    with capsys.disabled():
        print("", dict(statuses), sep="\n")  # noqa: T201
