"""The listening socket of a command."""

from __future__ import annotations

import errno
import os
import socket

import click

from serve.processes.listener import bind


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 takes a free one.

    Raises:
        click.UsageError: the host is no address of this machine, or the port is in use.
    """
    try:
        return bind(host, port)
    except (OSError, UnicodeError) as error:
        number = None if isinstance(error, socket.gaierror) else getattr(error, "errno", None)
        why = "it is no address of this machine; use 127.0.0.1, or 0.0.0.0 for all addresses"
        if number not in (None, errno.EADDRNOTAVAIL):
            why = os.strerror(number)
        raise click.UsageError(f"can't listen on {host}, port {port}: {why}") from None
