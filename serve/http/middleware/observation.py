"""The model of each request, the headers of each response, and its metrics."""

from __future__ import annotations

import time
from collections.abc import Collection

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve.http.model import CurrentModel

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"})


class Observation:
    """ASGI middleware: a request keeps the model of its start, and its response has that model's version.

    Routes read the model from `request.state.model`, so no answer mixes two models. Requests to `paths` are
    counted by name, all others as "other".
    """

    def __init__(self, app: ASGIApp, current: CurrentModel, paths: Collection[str]) -> None:
        self.app, self.current, self.paths = app, current, frozenset(paths)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        start, status = time.perf_counter(), 0
        model = self.current.model
        scope.setdefault("state", {})["model"] = model
        headers = [(b"x-content-type-options", b"nosniff")]
        if model is not None:
            headers.append((b"x-model-version", model.version.encode()))
        if self.current.is_leaving:
            headers.append((b"connection", b"close"))

        async def send_marked(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), *headers]
            await send(message)

        await self.app(scope, receive, send_marked)
        if status:
            path = scope["path"] if scope["path"] in self.paths else "other"
            method = scope["method"] if scope["method"] in METHODS else "other"
            self.current.metrics.answered(path, method, status, time.perf_counter() - start)
