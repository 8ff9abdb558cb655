"""Middleware before Gradio: refuses files, unused routes, foreign hosts and large bodies; sets a CSP."""

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
# It lets the browser send requests to this server only. Gradio's own page needs inline scripts and eval.
POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; font-src 'self' data:; connect-src 'self'; form-action 'self'; "
    "base-uri 'self'"
)
HEADERS = [
    (b"content-security-policy", POLICY.encode()),
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
]
# What the page and `gradio_client` request. Gradio's routes that read, write or fetch files are left out.
ROUTES = re.compile(
    r"(GET|HEAD) /((config|theme\.css|favicon\.ico|manifest\.json|robots\.txt)/?)?"
    r"|(GET|HEAD) /(assets|static|svelte)/.{1,200}"
    r"|GET /gradio_api/(info|openapi\.json|startup-events|theme\.css|app_id)/?"
    r"|GET /gradio_api/(queue/data|queue/status|heartbeat/[^/]+|call/(v2/)?[^/]+/[^/]+)"
    r"|POST /gradio_api/(queue/join|cancel|reset/?|(run|api|call|call/v2)/[^/]+/?)"
)


def guarded(app: ASGIApp, allowed_hosts: Collection[str]) -> ASGIApp:
    """Gradio's app behind every check; `allowed_hosts` as in `HostCheck`."""
    limited = BodyLimit(without_files(app), MAX_BODY_BYTES, BODY_SECONDS)
    return with_policy(HostCheck(limited, allowed_hosts))


def with_policy(app: ASGIApp) -> ASGIApp:
    """Add a policy to every response that keeps the browser from requesting any other host."""

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_policy(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", []), *HEADERS]
            await send(message)

        await app(scope, receive, send_with_policy)

    return answer


def without_files(app: ASGIApp) -> ASGIApp:
    """Answer 404 on every route that the page does not need, and 422 to a request that names a file.

    Gradio copies a file that a request names (`gradio.FileData`) into its cache, or downloads it, before it
    calls any function, whatever the function takes. `BodyLimit` must come before: it delivers bodies whole.
    """

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan" and not ROUTES.fullmatch(f"{scope.get('method')} {scope['path']}"):
            await refuse(scope, receive, send, 404, "not_found", "This page has no such route.")
            return
        if scope.get("method") != "POST":
            await app(scope, receive, send)
            return
        first = [await receive()]
        try:
            body = first[0].get("body", b"") or b"null"
            names_file = _names_file(json.loads(body, object_pairs_hook=_named_once))  # as Gradio parses it
        except (ValueError, RecursionError):  # a lone surrogate's too
            message = "The body is not JSON, nested too deeply, or has a name twice in an object."
            await refuse(scope, receive, send, 400, "bad_json", message)
            return
        if names_file:
            await refuse(scope, receive, send, 422, "no_files", "This page takes no files.")
            return

        async def replay() -> Message:
            return first.pop() if first else await receive()

        await app(scope, replay, send)

    return answer


def _named_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError
    return found


def _names_file(value: Any) -> bool:
    """Whether JSON holds, at any depth, what Gradio takes for a file. ValueError: text is not Unicode."""
    left = [value]
    while left:
        value = left.pop()
        if isinstance(value, dict):
            if isinstance(value.get("path"), str) and "meta" in value:
                return True
            left.extend([*value, *value.values()])
        elif isinstance(value, list):
            left.extend(value)
        elif isinstance(value, str):
            value.encode()
    return False
