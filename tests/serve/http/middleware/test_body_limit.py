"""Bodies that are too large, too slow or of no length, by direct calls and through a real server."""

from __future__ import annotations

import contextlib
import socket
import threading

import pytest
import uvicorn
from patience import PATIENCE, wait_until

from serve.http.middleware.body_limit import BodyLimit
from serve.processes.listener import bind

from .calls import answer, ask, echo

APP = BodyLimit(echo, 10)


def parts(*bodies: bytes) -> list[dict[str, object]]:
    last = len(bodies) - 1
    return [{"type": "http.request", "body": body, "more_body": at < last} for at, body in enumerate(bodies)]


@pytest.mark.parametrize("bodies", [[b""], [b"0123456789"], [b"01234", b"56789"], [b"0", b"", b"1"]])
def test_bodies_within_the_limit_arrive_whole(bodies) -> None:
    whole = b"".join(bodies)
    assert answer(APP, [("transfer-encoding", "chunked")], parts(*bodies)) == (200, whole)
    assert answer(APP, [("content-length", str(len(whole)))], parts(*bodies)) == (200, whole)


def test_a_declared_length_is_refused_before_anything_is_read() -> None:
    for length in ("11", "0" * 17 + "11", "9" * 19):
        assert answer(APP, [("content-length", length)], ()) == (413, "body_too_large")


def test_a_streamed_body_is_refused_as_soon_as_it_is_too_large() -> None:
    first = parts(b"01234", b"567890", b"never read")[:2]
    assert answer(APP, [("transfer-encoding", "chunked")], first) == (413, "body_too_large")


@pytest.mark.parametrize(
    "length", ["", "-1", "+1", "1.0", "1e3", "0x1", "1, 1", " 1", "\xb9", "9" * 20, "9" * 9999]
)
def test_a_malformed_length_is_refused(length) -> None:
    assert answer(APP, [("content-length", length)], ()) == (400, "bad_request")


def test_two_lengths_are_refused() -> None:
    assert answer(APP, [("content-length", "1")] * 2, ()) == (400, "bad_request")


def test_a_body_that_never_ends_is_refused_in_time() -> None:
    app = BodyLimit(echo, 10, seconds=0.01)
    assert answer(app, [("content-length", "2")], parts(b"0", b"1")[:1]) == (408, "body_timeout")


def test_a_client_that_leaves_gets_no_answer() -> None:
    gone = [*parts(b"0", b"1")[:1], {"type": "http.disconnect"}]
    assert ask(APP, [("content-length", "2")], gone) == []


@pytest.fixture(scope="module", params=["h11", "httptools"])
def server(request):
    """A real server with a limit of 1,000 bytes."""
    listener = bind("127.0.0.1")
    config = uvicorn.Config(
        BodyLimit(echo, 1000), http=request.param, ws="none", lifespan="off", log_config=None
    )
    running = uvicorn.Server(config)
    thread = threading.Thread(target=running.run, args=[[listener]])
    thread.start()
    try:
        wait_until(lambda: running.started)
        yield listener.getsockname()
    finally:
        running.should_exit = True
        thread.join(PATIENCE)
        listener.close()


def over(server, request: bytes) -> bytes:
    with socket.create_connection(server, PATIENCE) as connection:
        with contextlib.suppress(ConnectionError):
            connection.sendall(request)
        return connection.recv(1 << 16).split(b"\r\n", 1)[0]


@pytest.mark.parametrize(
    ("headers", "body", "status"),
    [
        (b"Content-Length: 5", b"12345", b"200"),
        (b"Content-Length: 5000000", b"", b"413"),
        (b"Content-Length: 500000", b"x" * 500000, b"413"),
        (b"Transfer-Encoding: chunked", b"800\r\n" + b"x" * 2048 + b"\r\n", b"413"),
        (b"Content-Length: " + b"9" * 5000, b"", b"400"),
        (b"Content-Length: 99999999999999999999", b"", b"400"),
        (b"Content-Length: x", b"", b"400"),
    ],
)
def test_a_server_tells_its_clients(server, headers, body, status) -> None:
    line = over(server, b"POST / HTTP/1.1\r\nHost: localhost\r\n" + headers + b"\r\n\r\n" + body)
    assert line.split()[1] == status
