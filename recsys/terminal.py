"""What may be shown on a terminal, and what is done when nobody looks at it any more."""

from __future__ import annotations

import contextlib
import os
import select
from typing import TextIO

import click


def printable(text: str) -> str:
    """The text, with what could steer a terminal shown as "�"; line breaks and tabs stay.

    Ids and titles come from data, and data may hold escape codes.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in "\n\t" else "\ufffd" for c in text)


def warn(line: str) -> None:
    """Print a line on stderr, if anybody reads it: the exit code tells as much."""
    with contextlib.suppress(OSError):
        click.echo(line, err=True)


def has_no_reader(stream: TextIO) -> bool:
    """Whether it is a pipe or a socket whose other end is closed. (True also where a system can't say.)"""
    if not hasattr(select, "poll"):
        return True
    poll = select.poll()
    poll.register(stream.fileno(), 0)  # such ends are told of unasked
    return bool(poll.poll(0))


def mute(stream: TextIO) -> None:
    """Send what is written to a stream nowhere: its reader (head, less) has left."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)
