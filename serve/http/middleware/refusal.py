"""The JSON error that every part of a server answers with."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence

import msgspec
from starlette.types import Receive, Scope, Send


def error_body(
    code: str, message: str, details: Sequence[Mapping[str, str]] = (), error_id: str | None = None
) -> bytes:
    """`{"error": {"id", "code", "message", "details"}}` as JSON: a code for programs, a message for people.

    Each of `details` has `where` (a field) and `message`. `error_id` is given where the log has it too.
    """
    error = {"id": error_id or new_error_id(), "code": code, "message": message, "details": list(details)}
    return msgspec.json.encode({"error": error})


def new_error_id() -> str:
    """16 hexadecimal digits that identify one error in the logs of clients; not a secret."""
    return f"{random.getrandbits(64):016x}"


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
    """Answer a request with `error_body`.

    A WebSocket gets the same answer to its handshake if the server can send one, else it is closed.
    """
    kind = "http.response"
    if scope["type"] == "websocket":
        await receive()  # websocket.connect
        kind = "websocket.http.response"
        if kind not in scope.get("extensions", {}):
            await send({"type": "websocket.close", "code": 1008, "reason": message})
            return
    body = error_body(code, message, error_id=error_id)
    all_headers = {"content-type": "application/json", "content-length": str(len(body)), **(headers or {})}
    encoded = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in all_headers.items()]
    await send({"type": f"{kind}.start", "status": status, "headers": encoded})
    await send({"type": f"{kind}.body", "body": body})
