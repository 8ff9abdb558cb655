"""The limit of requests in progress."""

from __future__ import annotations

from collections.abc import Callable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve.http.middleware.refusal import refuse

RETRY_AFTER_SECONDS = 1


class Admission:
    """ASGI middleware: at most `limit` requests are in progress; a further one gets 503 at once.

    Only paths that begin with `prefix` count. A request counts until its response begins, so clients that
    read slowly do not count. Put it behind the middleware that waits for the body, so that clients that send
    slowly do not count either. `on_refusal` is called for each refused request.
    """

    def __init__(self, app: ASGIApp, limit: int, prefix: str, on_refusal: Callable[[], None]) -> None:
        self.app, self.limit, self.prefix, self.on_refusal = app, limit, prefix, on_refusal
        self.n_admitted = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] != "http" or not scope["path"].startswith(self.prefix):
            await self.app(scope, receive, send)
            return
        if self.n_admitted >= self.limit:
            self.on_refusal()
            message = f"{self.limit} requests are in progress. Try again in {RETRY_AFTER_SECONDS} s."
            headers = {"retry-after": str(RETRY_AFTER_SECONDS)}
            await refuse(scope, receive, send, 503, "overloaded", message, headers)
            return
        self.n_admitted += 1
        counts = True

        def leave() -> None:
            nonlocal counts
            self.n_admitted -= counts
            counts = False

        async def leave_and_send(message: Message) -> None:
            leave()
            await send(message)

        try:
            await self.app(scope, receive, leave_and_send)
        finally:
            leave()
