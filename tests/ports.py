"""Ports for programs that must be told one."""

from __future__ import annotations

import random
import socket
from contextlib import suppress


def free_port() -> int:
    """None of those that the system or Ray give away by themselves: it is taken only seconds later."""
    for port in random.sample(range(20000, 30000), 100):  # not the one that other tests found free
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port
    raise AssertionError("no port is free")
