"""Connections, before anything is asked over them."""

from __future__ import annotations

import asyncio
import socket
from contextlib import ExitStack

from starlette.types import Receive, Scope, Send

from serve.http.server import LISTENERS, Server, listeners
from serve.processes.listener import bind


async def nothing(scope: Scope, receive: Receive, send: Send) -> None:
    """An app that is never asked."""


def test_a_turn_of_the_event_loop_takes_in_several_connections() -> None:
    """Turns, not times: under load a turn takes milliseconds, and the last of many may not wait for all."""
    n_clients = 4 * LISTENERS

    async def turns() -> int:
        server = Server(nothing, grace_seconds=1)
        with bind("127.0.0.1", 0) as listener, ExitStack() as clients:
            serving = asyncio.create_task(server.serve(listeners(listener)))
            while not server.started:
                await asyncio.sleep(0.01)
            address = listener.getsockname()
            for _ in range(n_clients):  # the kernel answers them, while the loop stands still
                clients.enter_context(socket.create_connection(address))
            n = 0
            while len(server.server_state.connections) < n_clients:
                await asyncio.sleep(0)
                n += 1
            server.should_exit = True
            await serving
        return n

    with asyncio.Runner(loop_factory=Server(nothing, 1).config.get_loop_factory()) as runner:
        assert runner.run(turns()) < n_clients / 2
