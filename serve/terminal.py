"""Text on a terminal: control characters, closed pipes, missing streams."""

from __future__ import annotations

import contextlib
import os
import select
import sys
from typing import TextIO

import click


def printable(text: str, keep: str = "\n\t") -> str:
    """Replace control characters by "�", except those in `keep`.

    Ids and titles come from data, which may hold escape codes.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in keep else "\ufffd" for c in text)


def say(line: str) -> None:
    """Print a line on stdout; a closed pipe, a full disk or a missing stdout is no error for a server."""
    try:
        click.echo(line)
    except BrokenPipeError:
        mute(sys.stdout)
    except (OSError, AttributeError):  # a full disk; no standard output at all
        pass


def warn(line: str) -> None:
    """Print a line on stderr; a closed stderr is no error, since the exit code says the same."""
    with contextlib.suppress(OSError):
        click.echo(line, err=True)


def has_no_reader(stream: TextIO) -> bool:
    """Whether the stream is a pipe or socket whose other end is closed; True where a system can't tell."""
    if not hasattr(select, "poll"):
        return True
    poll = select.poll()
    poll.register(stream.fileno(), 0)  # no events asked for: POLLHUP and POLLERR are always reported
    return bool(poll.poll(0))


def mute(stream: TextIO) -> None:
    """Redirect a stream to the null device, after its reader (`head`, `less`) has left."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, stream.fileno())
    os.close(null)
