"""The edge of the app: what happens to every request before a route sees it, and to every response after.

In this order: the bearer token; readiness; whether there is room; the body, whole, within its limits of size
and time; then the route. A request takes the model that answers at its start and keeps it, so that nothing
it says mixes two of them.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Set

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve.http.bearer import authorize
from serve.http.metrics import Metrics
from serve.http.model import CurrentModel
from serve.http.problems import CLOSE, Problem, internal_error
from serve.http.room import PREFIX, Overloaded, Room, later, marks
from serve.http.settings import Settings

HEALTH = ("/health/live", "/health/ready")
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"})
WITH_BODY = frozenset({"POST", "PUT", "PATCH"})
# Of a body that is too large, this much is read and thrown away, so that the client comes to read why.
DISCARDED_BODIES = 16
# Of bodies that come in parts, the beginnings of so many may be held at once, in bodies of the largest size:
# requests that are still arriving do not count as waiting, so that slow clients keep nobody else out.
HELD_BODIES = 16


class Edge:
    """ASGI middleware; see the module."""

    def __init__(
        self,
        app: ASGIApp,
        settings: Settings,
        current: CurrentModel,
        metrics: Metrics,
        room: Room,
        routes: Set[tuple[str, str]],
    ) -> None:
        self.app, self.settings, self.current, self.metrics, self.room = app, settings, current, metrics, room
        self.routes = routes
        """Methods and paths that there are."""
        self.paths = {path for _, path in routes}
        self.n_bytes_held = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        start = time.perf_counter()
        model = self.current.model
        scope.setdefault("state", {})["model"] = model
        extra = marks(self.current)
        status = 0

        async def send_marked(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), *extra]
            await send(message)

        try:
            await self._answer(scope, receive, send_marked)
        except Overloaded:
            refused, body = self.room.refusal()
            await send({"type": "http.response.start", "status": 503, "headers": refused})
            await send({"type": "http.response.body", "body": body})
            return
        except asyncio.CancelledError:
            if not self.current.draining:
                raise
            # The time that a stop leaves to what is at work is over.
            if status:  # its client does not read
                return
            stopping = Problem(503, "stopping", "The service stops. Ask again.", headers=CLOSE)
            await stopping.response()(scope, receive, send_marked)
        except Problem as problem:
            await problem.response()(scope, receive, send_marked)
        except Exception:
            if status:
                raise
            await internal_error()(scope, receive, send_marked)
        if status:
            route = scope["path"] if scope["path"] in self.paths else "other"
            method = scope["method"] if scope["method"] in METHODS else "other"
            self.metrics.answered(route, method, status, time.perf_counter() - start)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"]
        if path in HEALTH:
            await self.app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        if self.room.token_digest is not None:
            authorize(self.room.token_digest, headers.get(b"authorization", b""))
        if not path.startswith(PREFIX):
            await self.app(scope, receive, send)
            return
        if self.current.model is None:
            raise later("not_ready", "The model is still being loaded.", self.settings)
        self.room.check()
        if (scope["method"], path) in self.routes and scope["method"] in WITH_BODY:
            body = await self._body(headers, receive)
            if body is None:
                return
            receive = _once(body, receive)
        leave = self.room.take()

        async def leave_and_send(message: Message) -> None:
            leave()  # it has been answered, however long its client takes to read that
            await send(message)

        try:
            await self.app(scope, receive, leave_and_send)
        finally:
            leave()

    async def _body(self, headers: dict[bytes, bytes], receive: Receive) -> bytes | None:
        """The whole body; None where the client has gone.

        Raises:
            Problem: it is no JSON, too large, or too slow.
        """
        kind = headers.get(b"content-type", b"").split(b";")[0].strip().lower()
        if kind != b"application/json":
            given = f"is {kind.decode('latin-1')!r}" if kind else "is not given"
            message = f"The body must be JSON: its content type must be application/json, and {given}."
            raise Problem(415, "unsupported_media_type", message, headers=CLOSE)
        limit = self.settings.max_body_bytes
        declared = headers.get(b"content-length", b"")
        if declared.isdigit() and int(declared) > limit and b"expect" in headers:
            raise self._too_large()
        try:
            async with asyncio.timeout(self.settings.body_seconds):
                first = await receive()
                if first["type"] != "http.request":
                    return None
                body: bytes = first.get("body", b"")
                if len(body) > limit or first.get("more_body"):
                    return await self._rest(first, receive)
                return body
        except TimeoutError:
            seconds = self.settings.body_seconds
            raise Problem(
                408, "body_timeout", f"The body has not arrived within {seconds:g} s.", headers=CLOSE
            ) from None

    async def _rest(self, message: Message, receive: Receive) -> bytes | None:
        limit = self.settings.max_body_bytes
        held = bytearray()
        n_bytes = 0
        try:
            while True:
                part = message.get("body", b"")
                n_bytes += len(part)
                if n_bytes <= limit:
                    held += part
                    self.n_bytes_held += len(part)
                    if self.n_bytes_held > HELD_BODIES * limit:
                        raise Overloaded
                if not message.get("more_body") or n_bytes > limit * DISCARDED_BODIES:
                    break
                message = await receive()
                if message["type"] != "http.request":
                    return None
        finally:
            self.n_bytes_held -= len(held)
        if n_bytes > limit:
            raise self._too_large()
        return bytes(held)

    def _too_large(self) -> Problem:
        limit = self.settings.max_body_bytes
        return Problem(413, "body_too_large", f"A body may have {limit} bytes at most.", headers=CLOSE)


def _once(body: bytes, receive: Receive) -> Receive:
    """The body that has been read, and then what the client does next."""
    first: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replay() -> Message:
        return first.pop() if first else await receive()

    return replay
