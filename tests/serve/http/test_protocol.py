"""What is turned away before the app is asked, over real connections to a server in this process."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import Any, cast

import pytest
from fixture_bundles import FIXTURES
from patience import PATIENCE
from starlette.types import Receive, Scope, Send

from serve.http import protocol as protocol_module
from serve.http import server as server_module
from serve.http.app import create_app
from serve.http.model import CurrentModel, load_model
from serve.http.protocol import MAX_UNREAD_BYTES, MAX_WAITING, PIECE_BYTES, Protocol
from serve.http.room import Room
from serve.http.server import Server
from serve.http.settings import Settings
from serve.listener import bind

BUNDLE = FIXTURES / "dot-bias"
BODY = b'{"user_id": 10}'
HEAD = (
    f"POST /v1/recommend HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    f"Content-Length: {len(BODY)}\r\n"
).encode()
TOKEN = "a-token-of-some-length"
UPGRADE = (
    b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA\r\n"
)
CHUNKED = HEAD.rpartition(b"Content-Length")[0] + b"Transfer-Encoding: chunked\r\n"


@dataclass
class Connection:
    """A client's connection, the room of the worker that it leads to, and what the app was asked for."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    room: Room
    asked: list[str]
    server: Server
    others: list[Connection] = field(default_factory=list)

    async def other(self) -> Connection:
        """Another one, to the same worker."""
        address = self.writer.get_extra_info("peername")
        reader, writer = await asyncio.open_connection(*address)
        self.others.append(replace(self, reader=reader, writer=writer, others=[]))
        return self.others[-1]

    def protocol(self) -> Protocol:
        """The server's end of it."""
        ours = self.writer.get_extra_info("sockname")
        (found,) = (p for p in self.server.server_state.connections if cast(Protocol, p).client == ours)
        return cast(Protocol, found)

    def fill(self) -> None:
        self.room.n_at_work = self.room.limit

    def clear(self) -> None:
        self.room.n_at_work = 0

    async def answer(self, request: bytes) -> tuple[int, dict[str, str], Any]:
        """Status, headers and content of what comes back for these bytes."""
        self.writer.write(request)
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode().lower().split("\r\n")
        headers = dict(line.split(": ", 1) for line in head[1:] if line)
        content = await self.reader.readexactly(int(headers["content-length"]))
        return int(head[0].split()[1]), headers, json.loads(content)


@asynccontextmanager
async def connected(**settings: Any) -> AsyncIterator[Connection]:
    current = CurrentModel(load_model(BUNDLE, "cpu", 1))
    app = create_app(Settings(bundle=BUNDLE, **settings), current)
    asked: list[str] = []

    async def watched(scope: Scope, receive: Receive, send: Send) -> None:
        asked.append(scope["path"])
        await app(scope, receive, send)

    server, listener = Server(watched, 1, app.state.room), bind("127.0.0.1", 0)
    serving = asyncio.create_task(server.serve([listener]))
    reader, writer = await asyncio.open_connection(*listener.getsockname())
    connection = Connection(reader, writer, app.state.room, asked, server)
    yield connection
    for client in (connection, *connection.others):
        client.writer.transport.abort()
    server.should_exit = True
    await serving


def run(talk: Callable[[Connection], Awaitable[None]], **settings: Any) -> None:
    async def main() -> None:
        async with asyncio.timeout(PATIENCE), connected(**settings) as connection:
            await talk(connection)

    asyncio.run(main())


def test_a_full_worker_turns_away_at_the_headers() -> None:
    async def talk(connection: Connection) -> None:
        version = (await connection.answer(HEAD + b"\r\n" + BODY))[1]["x-model-version"]
        connection.fill()
        ids = set()
        for _ in range(3):
            # The body has not come yet; when it does it is thrown away, and the connection is as before.
            status, headers, content = await connection.answer(HEAD + b"\r\n")
            connection.writer.write(BODY)
            assert status == 503
            assert content["error"]["code"] == "overloaded"
            assert headers["retry-after"] == "1"
            assert headers["x-model-version"] == version
            assert {"date", "x-content-type-options"} <= set(headers)
            ids.add(content["error"]["id"])
        assert len(ids) == 3
        get = b"GET /v1/items?query=x HTTP/1.1\r\nHost: x\r\n\r\n"
        assert (await connection.answer(get))[0] == 503
        assert connection.asked == ["/v1/recommend"], "the app was asked"
        connection.clear()
        status, _, content = await connection.answer(HEAD + b"\r\n" + BODY)
        assert (status, content["user_id"]) == (200, 10)

    run(talk)


def test_what_comes_in_one_turn_of_the_loop_is_counted_at_once() -> None:
    """Twenty at the same time where three have room: the app is asked for three, not for all of them."""

    async def talk(connection: Connection) -> None:
        others = [await connection.other() for _ in range(20)]
        live = b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n"
        for other in others:
            assert (await other.answer(live))[0] == 200
        connection.asked.clear()
        for _ in range(2):  # and room is given back
            found = await asyncio.gather(*(other.answer(HEAD + b"\r\n" + BODY) for other in others))
            assert sorted(status for status, _, _ in found) == 3 * [200] + 17 * [503]
        assert connection.asked == 6 * ["/v1/recommend"]

    run(talk, max_concurrency=3)


@pytest.mark.parametrize(
    ("request_line", "more"),
    [
        (b"POST /v1/nowhere HTTP/1.1\r\n", b""),
        (b"POST /v1/recommend HTTP/1.0\r\n", b""),
        (b"POST /v1/recommend HTTP/1.1\r\n", b"Expect: 100-continue\r\n"),
    ],
    ids=str,
)
def test_what_is_unusual_is_turned_away_by_the_app(request_line: bytes, more: bytes) -> None:
    async def talk(connection: Connection) -> None:
        connection.fill()
        head = request_line + HEAD.split(b"\r\n", 1)[1] + more
        status, headers, content = await connection.answer(head + b"\r\n" + BODY)
        assert (status, content["error"]["code"], headers["retry-after"]) == (503, "overloaded", "1")
        assert len(connection.asked) == 1

    run(talk)


def test_health_and_strangers_go_to_the_app() -> None:
    async def talk(connection: Connection) -> None:
        connection.fill()
        assert (await connection.answer(HEAD + b"\r\n" + BODY))[0] == 401
        wrong = b"Authorization: Bearer wrong\r\n"
        assert (await connection.answer(HEAD + wrong + b"\r\n" + BODY))[0] == 401
        assert (await connection.answer(b"GET /health/ready HTTP/1.1\r\nHost: x\r\n\r\n"))[0] == 200
        assert len(connection.asked) == 3
        right = f"Authorization: Bearer {TOKEN}\r\n".encode()
        assert (await connection.answer(HEAD + right + b"\r\n" + BODY))[0] == 503
        assert len(connection.asked) == 3

    run(talk, token=TOKEN)


def chunk(data: bytes, extension: bytes = b"") -> bytes:
    return b"%x%b\r\n%b\r\n" % (len(data), extension, data)


async def send_for_ever(connection: Connection, part: bytes, patience: float = math.inf) -> None:
    """Send a part again and again; returns when the connection is closed."""
    sent = 0
    with suppress(ConnectionError):
        while sent < patience:
            connection.writer.write(part)
            await connection.writer.drain()
            sent += len(part)
            await asyncio.sleep(0)
        pytest.fail(f"{sent} bytes were read")


@pytest.mark.parametrize("framing", [b"Content-Length: 1000000000000", b"Transfer-Encoding: chunked"])
def test_a_stranger_can_not_send_for_ever(framing: bytes) -> None:
    """Of what is refused at its headers a part is read, so that the client comes to the answer."""

    async def talk(connection: Connection) -> None:
        head = b"POST /v1/recommend HTTP/1.1\r\nHost: x\r\n" + framing + b"\r\n\r\n"
        assert (await connection.answer(head))[0] == 401
        part = bytes(1 << 16) if b"Length" in framing else chunk(bytes(1 << 16))
        for _ in range((MAX_UNREAD_BYTES >> 16) - 8):  # less than a read
            connection.writer.write(part)
            await connection.writer.drain()
        await send_for_ever(connection, part)

    run(talk, token=TOKEN)


@pytest.mark.parametrize("is_answered", [True, False], ids=["answered", "at work"])
@pytest.mark.parametrize("offer", [b"", UPGRADE], ids=["plain", "upgrade"])
@pytest.mark.parametrize(
    ("beginning", "part"),
    [
        (b"", chunk(b"x", b";" + 1000 * b"x")),
        (b"1;", 1000 * b"x"),
        (b"0\r\n", b"X-More: 1\r\n"),
        (b"0\r\nX-More: ", 1000 * b"x"),
    ],
    ids=["extensions", "one extension", "trailers", "one trailer"],
)
def test_nor_what_is_no_body(is_answered: bool, offer: bytes, beginning: bytes, part: bytes) -> None:
    async def talk(connection: Connection) -> None:
        head = CHUNKED + offer
        if is_answered:
            assert (await connection.answer(head + b"\r\n"))[0] == 401
            connection.writer.write(beginning)
        else:
            right = f"Authorization: Bearer {TOKEN}\r\n".encode()
            connection.writer.write(head + right + b"\r\n" + beginning)
        await send_for_ever(connection, part, 4 * MAX_UNREAD_BYTES)

    run(talk, token=TOKEN)


def test_a_trailer_is_no_header() -> None:
    async def talk(connection: Connection) -> None:
        trailer = f"0\r\nAuthorization: Bearer {TOKEN}\r\n\r\n".encode()
        for offer in (b"", UPGRADE):
            request = CHUNKED + offer + b"\r\n" + chunk(BODY) + trailer
            assert (await connection.answer(request))[0] == 401
        right = f"Authorization: Bearer {TOKEN}\r\n".encode()
        assert (await connection.answer(HEAD + right + b"\r\n" + BODY))[0] == 200

    run(talk, token=TOKEN)


def test_many_requests_in_one_breath() -> None:
    """More than a head may take, and cut at any place."""

    async def talk(connection: Connection) -> None:
        get = b"GET /health/live HTTP/1.1\r\nHost: x\r\nX-Padding: " + 999 * b"x" + b"\r\n\r\n"
        connection.writer.write(200 * get)
        for _ in range(200):
            assert (await connection.answer(b""))[0] == 200

    run(talk)


PADDING = b"X-Padding: " + 900 * b"x" + b"\r\n\r\n"
SOME_REQUESTS = pytest.mark.parametrize(
    "request_",
    [b"GET /health/live HTTP/1.1\r\nHost: x\r\n" + PADDING, HEAD + PADDING + BODY],
    ids=["GET", "POST"],
)


@SOME_REQUESTS
def test_requests_that_do_not_wait_for_answers(request_: bytes) -> None:
    """Two hundred on their way all the time, a thousand in all."""

    async def talk(connection: Connection) -> None:
        connection.writer.write(100 * request_)
        for _ in range(10):
            connection.writer.write(100 * request_)
            for _ in range(100):
                assert (await connection.answer(b""))[0] == 200

    run(talk)


@SOME_REQUESTS
def test_requests_without_end_come_to_one(request_: bytes) -> None:
    """A client that sends on and on, and reads, does not fill the memory with what waits."""

    async def talk(connection: Connection) -> None:
        assert (await connection.answer(request_))[0] == 200
        protocol, most = connection.protocol(), 0

        async def send() -> None:
            while True:
                connection.writer.write(100 * request_)
                await connection.writer.drain()
                await asyncio.sleep(0)

        sending = asyncio.create_task(send())
        while protocol in connection.server.server_state.connections:
            connection.reader._buffer.clear()  # type: ignore[attr-defined]
            most = max(most, len(protocol.pipeline))
            await asyncio.sleep(0)
        sending.cancel()
        with suppress(ConnectionError, asyncio.CancelledError):
            await sending
        assert most <= MAX_WAITING + PIECE_BYTES // len(request_) + 1

    run(talk)


SCORES = json.dumps({"user_id": 10, "item_ids": 1000 * [1001]}).encode()
SCORE = (
    f"POST /v1/score HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    f"Content-Length: {len(SCORES)}\r\n\r\n"
).encode() + SCORES


async def stop_reading(connection: Connection) -> Connection:
    """A client that asks for much and reads nothing, so that its answers pile up."""
    deaf = await connection.other()
    assert (await deaf.answer(HEAD + b"\r\n" + BODY))[0] == 200
    deaf.writer.transport.pause_reading()  # type: ignore[attr-defined]
    protocol = deaf.protocol()
    while not protocol.flow.write_paused:
        deaf.writer.write(10 * SCORE)
        await asyncio.sleep(0)
    return deaf


def test_a_client_that_does_not_read_keeps_nobody_out_and_is_left_at_last(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def talk(connection: Connection) -> None:
        assert (await connection.answer(HEAD + b"\r\n" + BODY))[0] == 200
        deaf = await stop_reading(connection)
        assert connection.room.n_at_work == 0
        assert (await connection.answer(HEAD + b"\r\n" + BODY))[0] == 200
        deaf.writer.transport.abort()
        monkeypatch.setattr(protocol_module, "UNREAD_SECONDS", 0.1)
        protocol = (await stop_reading(connection)).protocol()
        while protocol in connection.server.server_state.connections:
            await asyncio.sleep(0.01)

    run(talk, max_concurrency=1)


def test_what_is_turned_away_does_not_pile_up_either(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol_module, "UNREAD_SECONDS", 0.5)

    async def talk(connection: Connection) -> None:
        deaf = await connection.other()
        assert (await deaf.answer(HEAD + b"\r\n" + BODY))[0] == 200
        protocol = deaf.protocol()
        deaf.writer.transport.pause_reading()  # type: ignore[attr-defined]
        connection.fill()
        request, most = b"POST /v1/recommend HTTP/1.1\r\n\r\n", 0
        with suppress(ConnectionError):
            while protocol in connection.server.server_state.connections:
                deaf.writer.write(100 * request)
                await asyncio.sleep(0)
                if not protocol.transport.is_closing():
                    most = max(most, protocol.transport.get_write_buffer_size())
        assert 64 << 10 < most < 1 << 20
        assert len(protocol.pipeline) == 0

    run(talk)


def test_those_that_take_no_room_keep_nobody_out() -> None:
    """What there is no route for, and heads whose bodies have not come: many in the same turn of the loop."""

    async def talk(connection: Connection) -> None:
        others = [await connection.other() for _ in range(20)]
        nowhere = HEAD.replace(b"/v1/recommend", b"/v1/nowhere") + b"\r\n" + BODY
        for asked in (nowhere, HEAD + b"\r\n"):
            for other in others:
                other.writer.write(asked)
            assert (await connection.answer(HEAD + b"\r\n" + BODY))[0] == 200
            if asked is nowhere:
                assert [(await other.answer(b""))[0] for other in others] == 20 * [404]

    run(talk, max_concurrency=1)


def test_what_is_told_to_a_client_that_does_not_read_it_does_not_keep_the_connection(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Less than makes a server wait before it writes on, but more than the system takes."""
    monkeypatch.setattr(server_module, "KEEP_ALIVE_SECONDS", 0.2)
    monkeypatch.setattr(protocol_module, "UNREAD_SECONDS", 0.2)

    async def talk(connection: Connection) -> None:
        deaf = await connection.other()
        assert (await deaf.answer(HEAD + b"\r\n" + BODY))[0] == 200
        deaf.writer.transport.pause_reading()  # type: ignore[attr-defined]
        protocol = deaf.protocol()
        while not protocol.transport.get_write_buffer_size():
            deaf.writer.write(SCORE)
            await asyncio.sleep(0.001)
        while protocol in connection.server.server_state.connections:
            await asyncio.sleep(0.01)

    run(talk)


def test_a_connection_on_which_nothing_comes_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "KEEP_ALIVE_SECONDS", 0.2)

    async def talk(connection: Connection) -> None:
        half = await connection.other()
        half.writer.write(HEAD)
        for client in (half, connection):
            assert await client.reader.read() == b""

    run(talk)


def test_a_connection_that_is_idle_after_a_refused_body_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "KEEP_ALIVE_SECONDS", 0.2)

    async def talk(connection: Connection) -> None:
        assert (await connection.answer(HEAD + b"\r\n"))[0] == 401
        connection.writer.write(BODY)
        assert await connection.reader.read() == b""

    run(talk, token=TOKEN)


def test_a_client_that_wants_to_close_is_left() -> None:
    async def talk(connection: Connection) -> None:
        connection.fill()
        status, _, _ = await connection.answer(HEAD + b"Connection: close\r\n\r\n" + BODY)
        assert status == 503
        assert await connection.reader.read() == b""

    run(talk)


def test_what_is_no_http_is_told_so_in_the_shape_of_all_errors() -> None:
    async def talk(connection: Connection) -> None:
        status, headers, content = await connection.answer(b"nonsense\r\n\r\n")
        assert (status, headers["content-type"], headers["connection"]) == (400, "application/json", "close")
        assert content["error"]["code"] == "bad_request"
        assert await connection.reader.read() == b""

    run(talk)


@pytest.mark.parametrize(
    "request_",
    [
        HEAD + UPGRADE + b"\r\n" + BODY,
        CHUNKED + UPGRADE + b"\r\n" + b"%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY),
    ],
    ids=["length", "chunked"],
)
@pytest.mark.parametrize("step", [1, 7, 10_000])
def test_who_offers_another_protocol_is_answered_in_this_one(request_: bytes, step: int) -> None:
    async def talk(connection: Connection) -> None:
        for _ in range(2):
            for at in range(0, len(request_) - 1, step):
                connection.writer.write(request_[at : min(at + step, len(request_) - 1)])
                await asyncio.sleep(0)
            status, _, content = await connection.answer(request_[-1:])
            assert (status, content["user_id"]) == (200, 10)
        # And what comes after it, in the same breath.
        status, _, content = await connection.answer(request_ + HEAD + b"\r\n" + BODY)
        assert (status, content["user_id"]) == (200, 10)
        status, _, content = await connection.answer(b"")
        assert (status, content["user_id"]) == (200, 10)
        get = b"GET /health/live HTTP/1.1\r\nHost: x\r\n" + UPGRADE + b"\r\n"
        assert (await connection.answer(get))[0] == 200
        assert len(connection.asked) == 5

    run(talk)


def test_many_such_requests_in_one_breath() -> None:
    async def talk(connection: Connection) -> None:
        get = b"GET /health/live HTTP/1.1\r\nHost: x\r\n" + UPGRADE + b"\r\n"
        connection.writer.write(200 * get)
        for _ in range(200):
            assert (await connection.answer(b""))[0] == 200

    run(talk)


def test_headers_without_end() -> None:
    async def talk(connection: Connection) -> None:
        connection.writer.write(b"GET /health/live HTTP/1.1\r\nHost: x\r\n")
        answered = asyncio.create_task(connection.answer(b""))
        for _ in range(100):  # slowly, so that nothing is left unread when the connection is closed
            if answered.done():
                break
            connection.writer.write(b"X-More: " + b"x" * 16_384 + b"\r\n")
            await asyncio.sleep(0.01)
        status, _, content = await answered
        assert (status, content["error"]["code"]) == (400, "bad_request")
        assert not connection.asked

    run(talk)
