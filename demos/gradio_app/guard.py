"""What the page's server refuses before Gradio sees it, and the policy that all its answers carry."""

from __future__ import annotations

import json
import re
from collections.abc import Collection
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve.http.middleware.body_limit import BodyLimit
from serve.http.middleware.host_check import HostCheck
from serve.http.middleware.refusal import refuse

MAX_BODY_BYTES = 1 << 20
BODY_SECONDS = 30.0
# Browsers that keep to it ask this server alone. Gradio's own page needs inline scripts and eval.
POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; font-src 'self' data:; connect-src 'self'; form-action 'self'; "
    "base-uri 'self'"
)
# What the page and `gradio_client` ask for. Not among it: Gradio's routes that read, write or fetch files.
ROUTES = re.compile(
    r"(GET|HEAD) /((config|theme\.css|favicon\.ico|manifest\.json|robots\.txt)/?|(assets|static|svelte)/.+)?"
    r"|GET /gradio_api/(info|openapi\.json|startup-events|theme\.css|app_id)/?"
    r"|GET /gradio_api/(queue/data|queue/status|heartbeat/[^/]+|call/(v2/)?[^/]+/[^/]+)"
    r"|POST /gradio_api/(queue/join|cancel|reset/?|(run|api|call|call/v2)/[^/]+/?)"
)


def guarded(app: ASGIApp, allowed_hosts: Collection[str]) -> ASGIApp:
    """Gradio's app behind every check; `allowed_hosts` as in `HostCheck`."""
    return OwnHostOnly(HostCheck(BodyLimit(NoFiles(app), MAX_BODY_BYTES, BODY_SECONDS), allowed_hosts))


class OwnHostOnly:
    """ASGI middleware: answers carry a policy that keeps the browser from asking any other host."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""

        async def with_policy(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [
                    *message.get("headers", []),
                    (b"content-security-policy", POLICY.encode()),
                    (b"referrer-policy", b"no-referrer"),
                    (b"x-content-type-options", b"nosniff"),
                ]
            await send(message)

        await self.app(scope, receive, with_policy)


class NoFiles:
    """ASGI middleware: 404 for every route that the page does not need, 422 for a request that names a file.

    Gradio copies a file that a request names (`gradio.FileData`) into its cache, or downloads it, before it
    calls any function, whatever the function takes. It expects `BodyLimit` before it.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if not ROUTES.fullmatch(f"{scope.get('method', '')} {scope['path']}"):
            await refuse(scope, receive, send, 404, "not_found", "This page has no such route.")
            return
        if scope["method"] != "POST":
            await self.app(scope, receive, send)
            return
        message = await receive()
        try:
            names_file = _names_file(json.loads(message.get("body", b"") or b"null"))  # as Gradio parses it
        except (ValueError, RecursionError):
            await refuse(scope, receive, send, 400, "bad_json", "The body is not JSON, or nested too deeply.")
            return
        if names_file:
            await refuse(scope, receive, send, 422, "no_files", "This page takes no files.")
            return

        first = [message]

        async def replay() -> Message:
            return first.pop() if first else await receive()

        await self.app(scope, replay, send)


def _names_file(value: Any) -> bool:
    """Whether JSON holds, anywhere, what Gradio takes for a file."""
    left = [value]
    while left:
        value = left.pop()
        if isinstance(value, dict):
            if isinstance(value.get("path"), str) and "meta" in value:
                return True
            left.extend(value.values())
        elif isinstance(value, list):
            left.extend(value)
    return False
