"""Ports for programs that must be told one."""

from __future__ import annotations

import socket
from contextlib import suppress


def free_port() -> int:
    """None of those that the system gives to whoever asks for any: it is taken only seconds later."""
    for port in range(15000, 30000):
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port
    raise AssertionError("no port is free")
