"""Real connections to a server in this process, whose worker can be looked into."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any, cast

from fixture_bundles import FIXTURES
from patience import PATIENCE
from starlette.types import Receive, Scope, Send

from serve.http.app import create_app
from serve.http.model import CurrentModel, load_model
from serve.http.protocol import Protocol
from serve.http.room import Room
from serve.http.server import Server
from serve.http.settings import Settings
from serve.processes.listener import bind

BUNDLE = FIXTURES / "dot-bias"
BODY = b'{"user_id": 10}'
HEAD = (
    f"POST /v1/recommend HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    f"Content-Length: {len(BODY)}\r\n"
).encode()
TOKEN = "a-token-of-some-length"
UPGRADE = (
    b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA\r\n"
)
CHUNKED = HEAD.rpartition(b"Content-Length")[0] + b"Transfer-Encoding: chunked\r\n"


@dataclass
class Connection:
    """A client's connection, the room of the worker that it leads to, and what the app was asked for."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    room: Room
    asked: list[str]
    server: Server
    others: list[Connection] = field(default_factory=list)

    async def other(self) -> Connection:
        """Another one, to the same worker."""
        address = self.writer.get_extra_info("peername")
        reader, writer = await asyncio.open_connection(*address)
        self.others.append(replace(self, reader=reader, writer=writer, others=[]))
        return self.others[-1]

    def protocol(self) -> Protocol:
        """The server's end of it."""
        ours = self.writer.get_extra_info("sockname")
        (found,) = (p for p in self.server.server_state.connections if cast(Protocol, p).client == ours)
        return cast(Protocol, found)

    def fill(self) -> None:
        self.room.n_at_work = self.room.limit

    def clear(self) -> None:
        self.room.n_at_work = 0

    async def answer(self, request: bytes) -> tuple[int, dict[str, str], Any]:
        """Status, headers and content of what comes back for these bytes."""
        self.writer.write(request)
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode().lower().split("\r\n")
        headers = dict(line.split(": ", 1) for line in head[1:] if line)
        content = await self.reader.readexactly(int(headers["content-length"]))
        return int(head[0].split()[1]), headers, json.loads(content)


@asynccontextmanager
async def connected(**settings: Any) -> AsyncIterator[Connection]:
    current = CurrentModel(load_model(BUNDLE, "cpu", 1))
    app = create_app(Settings(bundle=BUNDLE, **settings), current)
    asked: list[str] = []

    async def watched(scope: Scope, receive: Receive, send: Send) -> None:
        asked.append(scope["path"])
        await app(scope, receive, send)

    server, listener = Server(watched, 1, app.state.room), bind("127.0.0.1", 0)
    serving = asyncio.create_task(server.serve([listener]))
    reader, writer = await asyncio.open_connection(*listener.getsockname())
    connection = Connection(reader, writer, app.state.room, asked, server)
    yield connection
    for client in (connection, *connection.others):
        client.writer.transport.abort()
    server.should_exit = True
    await serving


def run(talk: Callable[[Connection], Awaitable[None]], **settings: Any) -> None:
    async def main() -> None:
        async with asyncio.timeout(PATIENCE), connected(**settings) as connection:
            await talk(connection)

    asyncio.run(main())


def chunk(data: bytes, extension: bytes = b"") -> bytes:
    return b"%x%b\r\n%b\r\n" % (len(data), extension, data)
