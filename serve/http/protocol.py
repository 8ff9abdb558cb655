"""HTTP/1.1 by uvicorn, with four changes: what there is no room for is refused at its headers; what is no
HTTP gets an error in our shape; headers and trailers have an end; and an offer to change to another protocol
(Java's client makes one, to HTTP/2) is passed over, and the request answered in this one.

A worker that is asked for several times what it can do would do little but refuse, if every request went
through the app for that. Whatever is unusual still does, and is refused there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from typing import Any, cast

import httptools
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from serve.http.problems import CLOSE, Problem
from serve.http.room import Headers, Room, marks

# Bytes that bring no request further (no end of its headers, no part of its body, no end of it): this bounds
# headers, trailers and chunk extensions. Looked at after each read, which may bring 256 KiB by itself.
MAX_HEAD_BYTES = 64 << 10
# Bytes of one request that the app does not read. After an early response some are read and thrown away, so
# that the client comes to read the response.
MAX_UNREAD_BYTES = 16 << 20
# A client that reads nothing for so long is left.
UNREAD_SECONDS = 75.0
# Of one connection, that were sent without waiting for answers: a client that sends more is left. (A read may
# bring thousands, each of which takes two kilobytes here.)
MAX_WAITING = 256
# Of a read, that are looked at before those that wait are counted.
PIECE_BYTES = 16 << 10

NO_HTTP = "This is no HTTP/1.1 request, or its headers are too long."


class _Answered:
    """Stands for a request that has its response: what still comes of its body is thrown away."""

    response_complete = True

    def __init__(self) -> None:
        self.message_event = asyncio.Event()


class _Flow(FlowControl):
    """Reads on only when all that was read is at work or answered: uvicorn does so after each response, and a
    client that sends on and on would fill the memory with requests that wait for their turn.
    """

    def __init__(self, transport: asyncio.Transport, waiting: Collection[Any]) -> None:
        super().__init__(transport)
        self._waiting = waiting

    def resume_reading(self) -> None:
        """Unless requests wait: then the one at work has all of its body, and needs no more."""
        if not self._waiting:
            super().resume_reading()


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
        self.unread: asyncio.TimerHandle | None = None
        self.head_bytes = self.unread_bytes = 0
        self.found = False
        """Whether this read has brought a request any further."""
        self.takes_room = False
        """Whether the request that is coming will, once it has come."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client has connected."""
        super().connection_made(transport)  # type: ignore[arg-type]
        self.flow = _Flow(self.transport, self.pipeline)
        self._wait_for_more()

    def pause_writing(self) -> None:
        """The client does not read what it is told."""
        super().pause_writing()
        self._wait_for_reader()

    def resume_writing(self) -> None:
        """It has read on."""
        super().resume_writing()
        if self.unread is not None:
            self.unread.cancel()
            self.unread = None

    def timeout_keep_alive_handler(self) -> None:
        """Nothing has come for a while."""
        self._close()

    def data_received(self, data: bytes) -> None:
        """What the client has sent."""
        self._unset_keepalive_if_required()
        self.found = False
        try:
            for start in range(0, len(data), PIECE_BYTES):
                left = data[start : start + PIECE_BYTES]
                while left:
                    left = self._feed(left)
                if len(self.pipeline) > MAX_WAITING:
                    self.transport.abort()
                    return
        except httptools.HttpParserError:
            self.send_400_response("")
            return
        self._wait_for_more()
        self.head_bytes = 0 if self.found else self.head_bytes + len(data)
        self.unread_bytes += len(data)
        if self.head_bytes > MAX_HEAD_BYTES:
            self.send_400_response("")
        elif self.unread_bytes > MAX_UNREAD_BYTES:
            self._close()

    def connection_lost(self, exc: Exception | None) -> None:
        """The client has gone, and with it those requests of its own that wait for their turn."""
        if self.unread is not None:
            self.unread.cancel()
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
        if self.takes_room and self.room is not None:
            self.room.let_in()
            self.takes_room = False

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self.at_work = cycle
        super()._start_asgi_task(cycle, app)

    def on_response_complete(self) -> None:
        """The app has answered."""
        super().on_response_complete()
        if self.transport.is_closing():
            self._wait_for_reader()

    def _wait_for_more(self) -> None:
        """Close the connection after a while, unless something comes, or is being answered."""
        is_idle = getattr(self.cycle, "response_complete", True) and not self.transport.is_closing()
        if is_idle and self.timeout_keep_alive_task is None:
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )

    def _wait_for_reader(self) -> None:
        """Leave the client after a while, unless it reads what it was told."""
        if self.unread is None and self.transport.get_write_buffer_size():
            self.unread = self.loop.call_later(UNREAD_SECONDS, self.transport.abort)

    def _close(self) -> None:
        self.transport.close()
        self._wait_for_reader()

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
            self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn does
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
        room = self.room
        self.takes_room = (
            room is not None
            and self.parser.get_http_version() == "1.1"
            and not self.parser.should_upgrade()
            and not self.expect_100_continue
            and getattr(self.cycle, "response_complete", True)  # else the one before is still at work
            and not self.flow.write_paused  # else its client does not read, and what it is told would pile up
            and room.is_asked_by(
                self.parser.get_method().decode("latin-1"),
                self.url.partition(b"?")[0].decode("latin-1"),
                self.headers,
            )
        )
        if room is None or not self.takes_room or not room.is_full():
            super().on_headers_complete()
            return
        self.takes_room = False
        headers, body = room.refusal()
        self.cycle = self.answered
        self._write(b"503 Service Unavailable", headers, body)
        if self.parser.should_keep_alive() and (b"connection", b"close") not in headers:
            self.on_response_complete()
        else:
            self._close()

    def send_400_response(self, msg: str) -> None:
        """The parser can't read on: the connection ends with this."""
        response = Problem(400, "bad_request", NO_HTTP, headers=CLOSE).response()
        more = marks(self.room.current) if self.room else []
        self._write(b"400 Bad Request", [*response.raw_headers, *more], bytes(response.body))
        self._close()

    def _write(self, status: bytes, headers: Headers, body: bytes) -> None:
        headers = [*self.server_state.default_headers, *headers]
        lines = [b"HTTP/1.1 " + status, *(name + b": " + value for name, value in headers)]
        self.transport.write(b"\r\n".join([*lines, b"", body]))
