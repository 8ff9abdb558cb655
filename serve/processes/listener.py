"""Listening sockets of the servers."""

from __future__ import annotations

import socket


def bind(host: str, port: int = 0, backlog: int = 2048) -> socket.socket:
    """Listen on a host and port; port 0 takes a free one.

    Raises:
        OSError: the port is taken, or the host is no address of this machine.
        UnicodeError: the host is not a valid name.
    """
    family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(backlog)
    except OSError:
        listener.close()
        raise
    return listener


def url(listener: socket.socket) -> str:
    """The URL of a listening socket."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
