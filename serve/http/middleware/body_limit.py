"""Limits of request bodies: their size, and the time that they take to arrive."""

from __future__ import annotations

import asyncio

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve.http.middleware.refusal import refuse

# More digits than any length that can be stored; `int` raises an error of its own for thousands of them.
MAX_DIGITS = 19
UPGRADE = (
    "The body is lost, as the request has an Upgrade header and this server offers no upgrade. Use plain "
    "HTTP/1.1: in Java, HttpClient.newBuilder().version(HttpClient.Version.HTTP_1_1)."
)


class BodyLimit:
    """ASGI middleware: passes requests on when their whole body has arrived, as one message.

    Answers 413 for a body of more than `max_bytes`: at once if its `Content-Length` says so, else as soon as
    more has arrived; 400 for a malformed `Content-Length`, and for a body that the server has dropped because
    of an `Upgrade` header; 408 for a body that takes more than `seconds` to arrive (None: no limit). After a
    413 the connection stays open, so that the server reads the rest and the client comes to read the answer.
    Bodies in a `Transfer-Encoding` beside `chunked` (400) or in a `Content-Encoding` (415) are not decoded.
    """

    def __init__(self, app: ASGIApp, max_bytes: int, seconds: float | None = None) -> None:
        self.app, self.max_bytes, self.seconds = app, max_bytes, seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        lengths: list[bytes] = []
        transfers: list[bytes] = []
        codings: list[bytes] = []
        upgrade = False
        for name, value in scope["headers"]:
            if name == b"content-length":
                lengths.append(value)
            elif name == b"transfer-encoding":
                transfers.append(value.lower())
            elif name == b"content-encoding":
                codings.append(value)
            elif name == b"upgrade":
                upgrade = True
        if not lengths and not transfers:  # no body, by HTTP/1.1's framing
            await self.app(scope, receive, send)
            return
        if wrong := _wrong_framing(lengths, transfers, codings):
            await refuse(scope, receive, send, *wrong)
            return
        length = int(lengths[0]) if lengths else None
        body = None
        if length is None or length <= self.max_bytes:
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
        elif upgrade and not body and length != 0:
            # uvicorn's parser takes what follows the headers for the other protocol. Were the connection left
            # open, it would take a body that comes later for the next request.
            await refuse(scope, receive, send, 400, "upgrade_not_offered", UPGRADE, {"connection": "close"})
        else:
            await self.app(scope, _replay(body, receive), send)

    async def _body(self, receive: Receive) -> bytes | None:
        """The whole body; None: it is too large. Raises ConnectionError: the client has gone."""
        message = await receive()
        if message["type"] == "http.request" and not message.get("more_body"):  # most come in one piece
            body: bytes = message.get("body", b"")
            return body if len(body) <= self.max_bytes else None
        held = bytearray()
        while message["type"] == "http.request":
            held += message.get("body", b"")
            if len(held) > self.max_bytes:
                return None
            if not message.get("more_body"):
                return bytes(held)
            message = await receive()
        raise ConnectionError


def _wrong_framing(
    lengths: list[bytes], transfers: list[bytes], codings: list[bytes]
) -> tuple[int, str, str, dict[str, str]] | None:
    """What to refuse headers with; None: the body is plain, in one piece or in chunks."""
    if len(lengths) > 1 or not all(value.isdigit() and len(value) <= MAX_DIGITS for value in lengths):
        return 400, "bad_request", "The Content-Length must be one whole number.", {}
    if transfers not in ([], [b"chunked"]):
        message = "The only Transfer-Encoding that this server decodes is chunked."
        return 400, "bad_request", message, {"connection": "close"}
    if lengths and transfers:  # a proxy that goes by the other one would see another end of the request
        message = "A request has a Content-Length or a Transfer-Encoding, not both."
        return 400, "bad_request", message, {"connection": "close"}
    coding = b", ".join(codings).decode("latin-1")
    if codings and not {one.strip().lower() for one in coding.split(",")} <= {"", "identity"}:
        message = f"Content-Encoding {coding!r:.80} is not supported: send the body uncompressed."
        return 415, "unsupported_media_type", message, {"accept-encoding": "identity"}
    return None


def _replay(body: bytes, receive: Receive) -> Receive:
    """`receive` of a request whose body has been read already."""
    first: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replay() -> Message:
        return first.pop() if first else await receive()

    return replay
