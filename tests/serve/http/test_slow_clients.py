"""Clients that send or read slowly, without end, or not at all: what they can take has a bound."""

from __future__ import annotations

import asyncio
import json
import math
from contextlib import suppress

import pytest

from serve.http import protocol as protocol_module
from serve.http import server as server_module
from serve.http.protocol import MAX_UNREAD_BYTES, MAX_WAITING, PIECE_BYTES

from .one_server import BODY, CHUNKED, HEAD, TOKEN, UPGRADE, Connection, chunk, run


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
    monkeypatch.setattr(server_module, "KEEP_ALIVE_SECONDS", 2.0)
    monkeypatch.setattr(protocol_module, "UNREAD_SECONDS", 2.0)

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
    monkeypatch.setattr(server_module, "KEEP_ALIVE_SECONDS", 2.0)

    async def talk(connection: Connection) -> None:
        half = await connection.other()
        half.writer.write(HEAD)
        for client in (half, connection):
            assert await client.reader.read() == b""

    run(talk)


def test_a_connection_that_is_idle_after_a_refused_body_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "KEEP_ALIVE_SECONDS", 2.0)

    async def talk(connection: Connection) -> None:
        assert (await connection.answer(HEAD + b"\r\n"))[0] == 401
        connection.writer.write(BODY)
        assert await connection.reader.read() == b""

    run(talk, token=TOKEN)


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
