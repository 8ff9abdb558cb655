"""Bodies that are too large, too slow or of no length, by direct calls and through a real server."""

from __future__ import annotations

import contextlib
import re
import select
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
    assert answer(APP, [("content-length", "1"), ("content-length", length)], ()) == (400, "bad_request")


@pytest.mark.parametrize("coding", ["", "gzip", "gzip, chunked", "chunked, chunked", "identity"])
def test_another_transfer_encoding_is_refused(coding) -> None:
    """Its body would be taken as it is."""
    assert answer(APP, [("transfer-encoding", coding)], ()) == (400, "bad_request")
    assert answer(APP, [("transfer-encoding", "Chunked")], parts(b"0")) == (200, b"0")
    assert answer(APP, [("transfer-encoding", "chunked")] * 2, ()) == (400, "bad_request")


@pytest.mark.parametrize(
    "coding", ["gzip", "GZIP", "x-gzip", "deflate", "br", "zstd", "identity, gzip", "\xff"]
)
def test_a_compressed_body_is_refused(coding) -> None:
    length = ("content-length", "1")
    assert answer(APP, [length, ("content-encoding", coding)], ()) == (415, "unsupported_media_type")
    both = [("content-encoding", "identity"), ("content-encoding", coding)]
    assert answer(APP, [length, *both], ()) == (415, "unsupported_media_type")
    for plain in ("identity", "", "Identity, identity"):
        assert answer(APP, [length, ("content-encoding", plain)], parts(b"0")) == (200, b"0")


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


def over(server, *packets: bytes) -> bytes:
    """The answer; each further packet is sent when the server has had time to see the one before."""
    with socket.create_connection(server, PATIENCE) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with contextlib.suppress(ConnectionError):
            for packet in packets:
                connection.sendall(packet)
                select.select([connection], [], [], 0.1)
        answer = connection.recv(1 << 16)
        while not is_whole(answer) and (more := connection.recv(1 << 16)):
            answer += more
        return answer


def is_whole(answer: bytes) -> bool:
    """Whether an answer has come to its end; its head and body may come apart."""
    head, blank, body = answer.partition(b"\r\n\r\n")
    if length := re.search(rb"(?i)\ncontent-length: (\d+)", head):
        return len(body) >= int(length[1])
    return bool(blank) and (body.endswith(b"0\r\n\r\n") or b"chunked" not in head.lower())


@pytest.mark.parametrize(
    ("headers", "body", "status"),
    [
        (b"Content-Length: 5", b"12345", b"200"),
        (b"Content-Length: 5000000", b"", b"413"),
        (b"Content-Length: 5000000\r\nExpect: 100-continue", b"", b"413"),
        (b"Content-Length: 500000", b"x" * 500000, b"413"),
        (b"Transfer-Encoding: chunked", b"800\r\n" + b"x" * 2048 + b"\r\n", b"413"),
        (b"Content-Length: " + b"9" * 5000, b"", b"400"),
        (b"Content-Length: 99999999999999999999", b"", b"400"),
        (b"Content-Length: x", b"", b"400"),
    ],
)
def test_a_server_tells_its_clients(server, headers, body, status) -> None:
    found = over(server, b"POST / HTTP/1.1\r\nHost: localhost\r\n" + headers + b"\r\n\r\n" + body)
    assert found.split()[1] == status


@pytest.mark.parametrize("in_one_packet", [True, False])
@pytest.mark.parametrize("chunked", [True, False])
def test_an_offer_to_upgrade_never_loses_the_body_silently(server, chunked, in_one_packet) -> None:
    """h11 keeps the body; httptools drops it, and the client is told."""
    head = b"POST / HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"
    head += b"HTTP2-Settings: AAEAAEAAAAIAAAAAAAMAAAAAAAQBAAAAAAUAAEAAAAYABgAA\r\n"
    head += b"Transfer-Encoding: chunked\r\n\r\n" if chunked else b"Content-Length: 15\r\n\r\n"
    content = b'{"user_id": 10}'
    body = b"f\r\n" + content + b"\r\n0\r\n\r\n" if chunked else content
    found = over(server, head + body) if in_one_packet else over(server, head, body)
    if found.startswith(b"HTTP/1.1 200"):
        assert content in found
    else:
        assert found.startswith(b"HTTP/1.1 400")
        assert b"connection: close" in found
        assert b"upgrade_not_offered" in found


def test_an_offer_to_upgrade_without_a_body_is_answered(server) -> None:
    head = b"Host: localhost\r\nConnection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: 0\r\n\r\n"
    assert over(server, b"POST / HTTP/1.1\r\n" + head).startswith(b"HTTP/1.1 200")
