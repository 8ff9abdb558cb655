"""What is turned away before the app is asked, over real connections to a server in this process."""

from __future__ import annotations

import asyncio

import pytest

from .one_server import BODY, CHUNKED, HEAD, TOKEN, UPGRADE, Connection, chunk, run


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
