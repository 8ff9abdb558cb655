"""The JSON error for unexpected failures."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve.http.middleware.refusal import new_error_id, refuse

logger = logging.getLogger(__name__)


class ErrorShape:
    """ASGI middleware: 500 for an exception, with its traceback in the log; 503 for a cancelled request.

    A server that stops cancels the requests that exceed the grace time.
    """

    def __init__(self, app: ASGIApp, is_stopping: Callable[[], bool]) -> None:
        self.app, self.is_stopping = app, is_stopping

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        has_begun = False

        async def watch(message: Message) -> None:
            nonlocal has_begun
            has_begun = True
            await send(message)

        try:
            await self.app(scope, receive, watch)
        except asyncio.CancelledError:
            if not self.is_stopping():
                raise
            if not has_begun:
                message = "The service is stopping. Try again."
                await refuse(scope, receive, send, 503, "stopping", message, {"connection": "close"})
        except Exception:
            if has_begun:
                raise
            error_id = new_error_id()
            logger.exception("error %s", error_id)
            message = f"The service failed; its log has the traceback under {error_id}."
            await refuse(scope, receive, send, 500, "internal", message, error_id=error_id)
