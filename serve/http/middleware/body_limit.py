"""Bound the size of request bodies, and the time that they may take to arrive."""

from __future__ import annotations

import asyncio

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve.http.middleware.refusal import refuse

# More digits than any length that can be stored; `int` refuses thousands of them with an error of its own.
MAX_DIGITS = 19


class BodyLimit:
    """ASGI middleware: hands on requests whose body has arrived whole, as one message.

    Answers 413 for a body of more than `max_bytes`: at once where its `Content-Length` says so, else as soon
    as more has arrived; 400 for a malformed `Content-Length`; 408 for a body that takes too long. The
    connection stays open, so that the server reads what is left and the client comes to read the answer.

    Args:
        app: What answers the requests that pass.
        max_bytes: The largest body, in bytes.
        seconds: How long a body may take to arrive. None: for ever.
    """

    def __init__(self, app: ASGIApp, max_bytes: int, seconds: float | None = None) -> None:
        self.app, self.max_bytes, self.seconds = app, max_bytes, seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        lengths = [value for name, value in scope["headers"] if name == b"content-length"]
        chunked = any(name == b"transfer-encoding" for name, _ in scope["headers"])
        if not lengths and not chunked:  # no body, by HTTP/1.1's framing
            await self.app(scope, receive, send)
            return
        if len(lengths) > 1 or not all(value.isdigit() and len(value) <= MAX_DIGITS for value in lengths):
            message = "The Content-Length must be one whole number."
            await refuse(scope, receive, send, 400, "bad_request", message)
            return
        body = None
        if not any(int(value) > self.max_bytes for value in lengths):
            try:
                async with asyncio.timeout(self.seconds):
                    body = await self._body(receive)
            except TimeoutError:
                message = f"The body has not arrived within {self.seconds:g} s."
                await refuse(scope, receive, send, 408, "body_timeout", message, {"connection": "close"})
                return
            except ConnectionError:
                return
        if body is None:
            message = f"A body may have {self.max_bytes} bytes at most."
            await refuse(scope, receive, send, 413, "body_too_large", message)
            return
        await self.app(scope, _replay(body, receive), send)

    async def _body(self, receive: Receive) -> bytes | None:
        """The whole body, or None where it is too large.

        Raises ConnectionError: the client has gone.
        """
        held = bytearray()
        while True:
            message = await receive()
            if message["type"] != "http.request":
                raise ConnectionError
            held += message.get("body", b"")
            if len(held) > self.max_bytes:
                return None
            if not message.get("more_body"):
                return bytes(held)


def _replay(body: bytes, receive: Receive) -> Receive:
    """`receive` of a request whose body has been read already."""
    first: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replay() -> Message:
        return first.pop() if first else await receive()

    return replay
