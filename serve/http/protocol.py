"""HTTP/1.1 as uvicorn speaks it, but for a few things: what there is no room for is turned away at its
headers; what is no HTTP is told so in our shape of errors; headers come to an end; and whoever offers to
change to another protocol (Java's client does, to HTTP/2) is answered in this one.

A worker that is asked for several times what it can do would do little but turn away, if every request went
through the app for that. Whatever is unusual still does, and is turned away there.
"""

from __future__ import annotations

import asyncio
from typing import Any, cast

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from serve.http.problems import CLOSE, Problem
from serve.http.room import Headers, Room

# In a row, without the end of a head, a piece of a body or the end of a request: heads, trailers and chunks'
# extensions have an end. What comes in one read (of up to 256 KiB) may be longer. Ours take some hundred.
MAX_HEAD_BYTES = 64 << 10
# Of one request, and not for the app: what comes after the response is read so far that the client comes to
# read that.
MAX_UNREAD_BYTES = 16 << 20

NO_HTTP = "This is no HTTP/1.1 request, or its headers are too long."


class _Answered:
    """Stands for a request that has its response: what still comes of its body is thrown away."""

    response_complete = True

    def __init__(self) -> None:
        self.message_event = asyncio.Event()


class _Body:
    """Passes on what a parser finds; of the first request, its body only."""

    def __init__(self, protocol: Protocol) -> None:
        self.on_body, self.on_message_complete = protocol.on_body, protocol.on_message_complete
        self._protocol = protocol
        self.has_head = False

    def on_message_begin(self) -> None:
        if self.has_head:
            self._protocol.on_message_begin()

    def on_url(self, url: bytes) -> None:
        if self.has_head:
            self._protocol.on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        if self.has_head:
            self._protocol.on_header(name, value)

    def on_headers_complete(self) -> None:
        if self.has_head:
            self._protocol.on_headers_complete()


class Protocol(HttpToolsProtocol):
    """One connection.

    Args:
        room: Of the app; None lets every request through to it.
        of_uvicorn: What it gives to every protocol.
    """

    def __init__(self, room: Room | None, **of_uvicorn: Any) -> None:
        super().__init__(**of_uvicorn)
        self.room = room
        self.answered = cast(RequestResponseCycle, _Answered())
        self.at_work: RequestResponseCycle | None = None
        self.head_bytes = self.unread_bytes = 0
        self.found = False
        """Whether this read has brought a request any further."""

    def data_received(self, data: bytes) -> None:
        """What the client has sent."""
        self._unset_keepalive_if_required()
        self.found, left = False, data
        try:
            while left:
                left = self._feed(left)
        except httptools.HttpParserError:
            self.send_400_response("")
            return
        self.head_bytes = 0 if self.found else self.head_bytes + len(data)
        self.unread_bytes += len(data)
        if self.head_bytes > MAX_HEAD_BYTES:
            self.send_400_response("")
        elif self.unread_bytes > MAX_UNREAD_BYTES:
            self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """The client has gone, and with it those requests of its own that wait for their turn."""
        if self.at_work is not None:
            self.at_work.disconnected = True
            self.at_work.message_event.set()
        self.pipeline.clear()
        super().connection_lost(exc)

    def on_header(self, name: bytes, value: bytes) -> None:
        """The parser calls this for each header, and for each trailer: those are nothing to us."""
        if "method" not in self.scope:
            super().on_header(name, value)

    def on_body(self, body: bytes) -> None:
        """The parser calls this for each part of a body."""
        self.found = True
        if not self.cycle.response_complete:
            self.unread_bytes -= len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        """The parser calls this after the body; too early where it makes way for another protocol."""
        self.found = True
        if not self.parser.should_upgrade():
            self.unread_bytes = 0
            super().on_message_complete()

    def _should_upgrade(self) -> bool:
        return False

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self.at_work = cycle
        super()._start_asgi_task(cycle, app)

    def _feed(self, data: bytes) -> bytes:
        """Give the parser what has come; what it leaves is for the one that takes its place.

        A parser ends at the headers of a request that offers another protocol. The next one is told of that
        request's body's length, and goes on.
        """
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            parser = _Body(self)
            self.parser = httptools.HttpRequestParser(parser)
            framing = (b"content-length", b"transfer-encoding")
            head = [name + b": " + value for name, value in self.headers if name in framing]
            self.parser.feed_data(b"\r\n".join([b"POST / HTTP/1.1", *head, b"", b""]))
            parser.has_head = True
            return data[upgrade.args[0] :]
        return b""

    def on_headers_complete(self) -> None:
        """The parser calls this before the body has come."""
        self.scope["method"] = ""  # the head is whole
        self.found, self.unread_bytes = True, 0
        if (
            self.room is None
            or self.parser.get_method() != b"POST"
            or self.parser.get_http_version() != "1.1"
            or self.parser.should_upgrade()
            or self.expect_100_continue
            or not getattr(self.cycle, "response_complete", True)  # the one before is still at work
            or not self.room.turns_away(self.url.decode("latin-1"), self.headers)
        ):
            super().on_headers_complete()
            return
        headers, body = self.room.refusal()
        self.cycle = self.answered
        self._write(b"503 Service Unavailable", headers, body)
        if self.parser.should_keep_alive() and (b"connection", b"close") not in headers:
            self.on_response_complete()
        else:
            self.transport.close()

    def send_400_response(self, msg: str) -> None:
        """The parser can't read on: the connection ends with this."""
        response = Problem(400, "bad_request", NO_HTTP, headers=CLOSE).response()
        self._write(b"400 Bad Request", response.raw_headers, bytes(response.body))
        self.transport.close()

    def _write(self, status: bytes, headers: Headers, body: bytes) -> None:
        headers = [*self.server_state.default_headers, *headers]
        lines = [b"HTTP/1.1 " + status, *(name + b": " + value for name, value in headers)]
        self.transport.write(b"\r\n".join([*lines, b"", body]))
