"""Requests to an ASGI app without a server."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec


async def echo(scope, receive, send) -> None:
    """An app that answers with the body that it got."""
    body, more = b"", True
    while more:
        message = await receive()
        body, more = body + message.get("body", b""), message.get("more_body", False)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body})


def ask(app, headers, messages=({"type": "http.request"},), kind="http", extensions=()) -> list[Any]:
    """What the app sends; after the last of `messages`, it waits for ever."""
    coming, sent = list(messages), []

    async def receive():
        return coming.pop(0) if coming else await asyncio.Future()

    async def send(message) -> None:
        sent.append(message)

    raw = [(name.encode(), value.encode("latin-1")) for name, value in headers]
    scope = {
        "type": kind,
        "method": "POST",
        "path": "/",
        "headers": raw,
        "extensions": dict.fromkeys(extensions),
    }
    asyncio.run(asyncio.wait_for(app(scope, receive, send), 60))
    return sent


def answer(app, headers, messages=({"type": "http.request"},)) -> tuple[int, Any]:
    """The status and, of a refusal, the code of its error; else the body."""
    start, body = ask(app, headers, messages)
    content = body["body"]
    if start["status"] == 200:
        return 200, content
    assert (b"content-type", b"application/json") in start["headers"]
    assert (b"content-length", str(len(content)).encode()) in start["headers"]
    error = msgspec.json.decode(content)["error"]
    assert list(error) == ["id", "code", "message", "details"]
    assert len(error["id"]) == 16
    return start["status"], error["code"]
