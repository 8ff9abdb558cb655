"""A port for programs that can't choose one themselves."""

from __future__ import annotations

import random
import socket
from contextlib import suppress


def free_port() -> int:
    """A free port outside the ranges from which the system and Ray choose: it is bound seconds later."""
    for port in random.sample(range(20000, 30000), 100):  # not the one that other tests found free
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port
    raise AssertionError("no port is free")
