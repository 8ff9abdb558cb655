"""uvicorn as we run it: on a socket that is there already, quiet, stopped by us and not by signals."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from functools import partial

import uvicorn
from starlette.types import ASGIApp

from serve.http.protocol import Protocol
from serve.http.room import Room

# The event loop accepts one connection a turn from a socket, and a turn under load takes milliseconds: who
# opens a connection for each request would wait for seconds, and never be turned away. So there are several.
LISTENERS = 8
# Longer than the usual minute of proxies: they, and not we, should be the ones to close an idle connection.
KEEP_ALIVE_SECONDS = 75


class Server(uvicorn.Server):
    """Set `should_exit` to have it finish what it has and end, within `grace_seconds`.

    With the `room` of the app, what there is none for is turned away before the app is asked.
    """

    def __init__(self, app: ASGIApp, grace_seconds: int, room: Room | None = None) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                http=partial(Protocol, room),  # type: ignore[arg-type]
                lifespan="off",
                ws="none",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                timeout_keep_alive=KEEP_ALIVE_SECONDS,
                timeout_graceful_shutdown=grace_seconds,
            )
        )

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave them alone."""
        yield


def listeners(one: socket.socket) -> list[socket.socket]:
    """Several sockets that listen as `one` does, itself among them."""
    return [one, *(one.dup() for _ in range(LISTENERS - 1))]
