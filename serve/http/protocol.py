"""HTTP/1.1 as uvicorn speaks it, but for two things: what there is no room for is turned away at its headers,
and what is no HTTP is told so in our shape of errors.

A worker that is asked for several times what it can do would do little but turn away, if every request went
through the app for that. Whatever is unusual still does, and is turned away there.
"""

from __future__ import annotations

import asyncio
from typing import Any, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from serve.http.problems import CLOSE, Problem
from serve.http.room import Headers, Room

NO_HTTP = "This is no HTTP/1.1 request, or its headers are too long."


class _Answered:
    """Stands for a request that has its response: what still comes of its body is thrown away."""

    response_complete = True

    def __init__(self) -> None:
        self.message_event = asyncio.Event()


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

    def on_headers_complete(self) -> None:
        """The parser calls this before the body has come."""
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
