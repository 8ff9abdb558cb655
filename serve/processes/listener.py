"""Listening sockets of the servers."""

from __future__ import annotations

import socket


def bind(host: str, port: int = 0, backlog: int = 2048) -> socket.socket:
    """Listen on a host and port; port 0 takes a free one.

    Raises:
        OSError: the port is taken, or the host is no address of this machine.
        UnicodeError: the host is not a valid name.
    """
    family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    both = family == socket.AF_INET6 and socket.has_dualstack_ipv6()  # "::" takes IPv4 connections too
    return socket.create_server(address, family=family, backlog=backlog, dualstack_ipv6=both)


def url(listener: socket.socket) -> str:
    """The URL of a listening socket."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
