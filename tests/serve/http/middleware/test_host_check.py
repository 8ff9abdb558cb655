"""Which hosts a server answers to, and whose pages may ask it."""

from __future__ import annotations

import pytest

from serve.http.middleware.host_check import HostCheck

from .calls import answer, ask, echo

APP = HostCheck(echo, ["Recommender.Example:443", "127.0.0.1", "localhost", "::1", ""])
OURS = (200, b"")
MISDIRECTED = (421, "misdirected_request")
FOREIGN = (403, "foreign_origin")


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "127.0.0.1:7860",
        "192.0.2.7:80",
        "[::1]",
        "[::1]:7860",
        "[2001:DB8::1]:7860",
        "localhost",
        "LocalHost:7860",
        "localhost.:7860",
        "recommender.example",
        "RECOMMENDER.example.:443",
    ],
)
def test_addresses_localhost_and_allowed_names_pass(host) -> None:
    assert answer(APP, [("host", host)]) == OURS


@pytest.mark.parametrize(
    "host",
    [
        "",
        "evil.example",
        "evil.example:7860",
        "localhost.evil.example",
        "sub.recommender.example",
        "recommender.example.evil.example",
        "127.0.0.1.evil.example",
        "127.1",
        "2130706433",
        "0x7f000001",
        "127.0.0.1@evil.example",
        "evil.example@127.0.0.1",
        "127.0.0.1:80:80",
        "127.0.0.1:port",
        "127.0.0.1/evil.example",
        "127.0.0.1, evil.example",
        "[::1",
        "::1",
        "[::1].evil.example",
        "[evil.example]",
        "localhost..",
        "l\xf6calhost",
    ],
)
def test_other_hosts_are_refused(host) -> None:
    assert answer(APP, [("host", host)]) == MISDIRECTED
    assert answer(APP, [("host", "localhost"), ("host", host)]) == MISDIRECTED


def test_without_a_host_no_browser_has_asked() -> None:
    assert answer(APP, []) == OURS


@pytest.mark.parametrize(
    ("host", "origin", "wanted"),
    [
        ("127.0.0.1:7860", "http://127.0.0.1:7860", OURS),
        ("localhost:7860", "http://LOCALHOST:7860", OURS),
        ("[::1]:7860", "http://[::1]:7860", OURS),
        ("recommender.example", "https://recommender.example", OURS),
        ("127.0.0.1:7860", "https://recommender.example", OURS),  # a proxy that rewrites Host
        ("127.0.0.1:7860", "http://evil.example", FOREIGN),
        ("127.0.0.1:7860", "http://evil.example:7860", FOREIGN),
        ("127.0.0.1:7860", "http://192.0.2.7", FOREIGN),
        ("127.0.0.1:7860", "http://127.0.0.1", FOREIGN),
        ("127.0.0.1:7860", "http://127.0.0.1:3000", FOREIGN),
        ("127.0.0.1:7860", "http://localhost:7860", FOREIGN),
        ("recommender.example", "http://127.0.0.1", FOREIGN),
        ("127.0.0.1:7860", "http://127.0.0.1:7860.evil.example", FOREIGN),
        ("127.0.0.1:7860", "http://127.0.0.1:7860@evil.example", FOREIGN),
        ("127.0.0.1:7860", "chrome-extension://127.0.0.1:7860", FOREIGN),
        ("127.0.0.1:7860", "127.0.0.1:7860", FOREIGN),
        ("127.0.0.1:7860", "null", FOREIGN),
        ("127.0.0.1:7860", "", FOREIGN),
        ("evil.example", "http://evil.example", MISDIRECTED),
    ],
)
def test_only_its_own_pages_may_ask(host, origin, wanted) -> None:
    assert answer(APP, [("host", host), ("origin", origin)]) == wanted
    if wanted == OURS:
        two = [("host", host), ("origin", origin), ("origin", "http://evil.example")]
        assert answer(APP, two) == FOREIGN


CONNECT = ({"type": "websocket.connect"},)


def test_web_sockets_are_checked_too() -> None:
    foreign = [("host", "127.0.0.1"), ("origin", "http://evil.example")]
    (closed,) = ask(APP, foreign, CONNECT, "websocket")
    assert (closed["type"], closed["code"]) == ("websocket.close", 1008)

    start, body = ask(APP, foreign, CONNECT, "websocket", ["websocket.http.response"])
    assert (start["type"], start["status"]) == ("websocket.http.response.start", 403)
    assert b"foreign_origin" in body["body"]

    async def accept(scope, receive, send) -> None:
        await receive()
        await send({"type": "websocket.accept"})

    ours = [("host", "127.0.0.1"), ("origin", "http://127.0.0.1")]
    assert ask(HostCheck(accept), ours, CONNECT, "websocket") == [{"type": "websocket.accept"}]
