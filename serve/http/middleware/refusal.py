"""The answer to a request that a middleware refuses."""

from __future__ import annotations

import random
from collections.abc import Mapping

import msgspec
from starlette.types import Receive, Scope, Send


async def refuse(
    scope: Scope,
    receive: Receive,
    send: Send,
    status: int,
    code: str,
    message: str,
    headers: Mapping[str, str] | None = None,
    *,
    error_id: str | None = None,
) -> None:
    """Answer with the service's JSON error: `{"error": {"id", "code", "message", "details": []}}`.

    A WebSocket gets the same answer to its handshake where the server can send one, else it is closed.
    """
    kind = "http.response"
    if scope["type"] == "websocket":
        await receive()  # websocket.connect
        kind = "websocket.http.response"
        if kind not in scope.get("extensions", {}):
            await send({"type": "websocket.close", "code": 1008, "reason": message})
            return
    error = {"id": error_id or new_error_id(), "code": code, "message": message, "details": []}
    body = msgspec.json.encode({"error": error})
    all_headers = {"content-type": "application/json", "content-length": str(len(body)), **(headers or {})}
    encoded = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in all_headers.items()]
    await send({"type": f"{kind}.start", "status": status, "headers": encoded})
    await send({"type": f"{kind}.body", "body": body})


def new_error_id() -> str:
    """16 hexadecimal digits, which tell errors apart in the logs of clients; no secret."""
    return f"{random.getrandbits(64):016x}"
