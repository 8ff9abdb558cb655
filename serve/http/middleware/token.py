"""The check of the bearer token."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Collection

from starlette.types import ASGIApp, Receive, Scope, Send

from serve.http.middleware.refusal import refuse


class TokenCheck:
    """ASGI middleware: 401 unless the only `Authorization` header holds the token; `open_paths` need none."""

    def __init__(self, app: ASGIApp, token: str, open_paths: Collection[str] = ()) -> None:
        self.app, self.open_paths = app, frozenset(open_paths)
        self.digest = _digest(token.encode())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] != "http" or scope["path"] in self.open_paths:
            await self.app(scope, receive, send)
            return
        # Of several headers, a proxy may have checked a different one than this server would.
        given = [value for name, value in scope["headers"] if name == b"authorization"]
        scheme, _, token = given[0].partition(b" ") if len(given) == 1 else (b"", b"", b"")
        # Digests have one length and are compared in constant time: no timing attack on the token.
        if scheme.lower() == b"bearer" and hmac.compare_digest(_digest(token.strip()), self.digest):
            await self.app(scope, receive, send)
            return
        message = "A bearer token is required, in one header: Authorization: Bearer TOKEN."
        await refuse(scope, receive, send, 401, "unauthorized", message, {"www-authenticate": "Bearer"})


def _digest(token: bytes) -> bytes:
    return hashlib.sha256(token).digest()
