"""Listening sockets of the commands that serve."""

from __future__ import annotations

import errno
import os
import socket

import click

from serve.processes.listener import bind
from serve.terminal import warn

LOOPBACK = ("127.0.0.1", "::1", "localhost")


def warn_of_reach(host: str, why: str) -> None:
    """Say that others reach a host that is not this machine's alone, and why that matters."""
    if host not in LOOPBACK:
        warn(f"Warning: {host} is reached from elsewhere, and {why}.")


def listen(host: str, port: int, n_more: int = 0) -> socket.socket:
    """Listen on a host and port; 0 takes a free one. If it is taken, the next `n_more` are tried.

    Raises UsageError: all are taken, or no such host.
    """
    try:
        return bind(host, port)
    except (OSError, UnicodeError) as error:
        number = None if isinstance(error, socket.gaierror) else getattr(error, "errno", None)
        if number == errno.EADDRINUSE and n_more:
            return listen(host, port + 1, n_more - 1)
        why = "it is no address of this machine; 127.0.0.1 is, and 0.0.0.0 stands for all of them"
        if number not in (None, errno.EADDRNOTAVAIL):
            why = os.strerror(number)
        raise click.UsageError(f"can't listen on {host}, port {port}: {why}") from None
