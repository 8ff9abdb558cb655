"""uvicorn's HTTP protocol, with a limit of request heads and the service's own error for bad requests."""

from __future__ import annotations

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from serve.http.middleware.refusal import error_body

MAX_HEAD_BYTES = 1 << 16
MALFORMED = (400, "bad_request", "This is no valid HTTP/1.1 request.")
CUT_SHORT = (400, "bad_request", "The request ends before its headers or its body do.")
HEAD_TOO_LARGE = (431, "headers_too_large", f"URL and headers may have {MAX_HEAD_BYTES} bytes at most.")


class Protocol(HttpToolsProtocol):
    """Answers requests that are malformed, cut short or of an endless head with the service's JSON error.

    uvicorn itself answers in plain text or not at all, and stores headers without a limit.
    """

    _head_bytes = 0
    """Received since the last head, piece of a body or end of a request."""
    _has_open_body = False
    _problem = MALFORMED

    def data_received(self, data: bytes) -> None:
        """See asyncio.Protocol."""
        self._head_bytes += len(data)
        super().data_received(data)
        if self._head_bytes > MAX_HEAD_BYTES and not self.transport.is_closing():
            self._refuse(HEAD_TOO_LARGE)

    def eof_received(self) -> None:
        """See asyncio.Protocol."""
        if self._head_bytes or (self._has_open_body and not self.cycle.response_started):
            self._refuse(CUT_SHORT)

    def on_headers_complete(self) -> None:
        """See httptools."""
        self._head_bytes = 0
        if len(self.url) + sum(len(name) + len(value) for name, value in self.headers) > MAX_HEAD_BYTES:
            self._problem = HEAD_TOO_LARGE
            raise httptools.HttpParserError  # leads to `send_400_response`
        super().on_headers_complete()
        self._has_open_body = True

    def on_body(self, body: bytes) -> None:
        """See httptools."""
        self._head_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """See httptools."""
        self._head_bytes = 0
        self._has_open_body = False
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        """Answer what httptools can't parse."""
        self._refuse(self._problem)

    def _refuse(self, problem: tuple[int, str, str]) -> None:
        status, code, message = problem
        body = error_body(code, message)
        head = f"content-type: application/json\r\ncontent-length: {len(body)}\r\nconnection: close\r\n\r\n"
        self.transport.write(STATUS_LINE[status] + head.encode() + body)
        self.transport.close()
