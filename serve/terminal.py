"""Text on a terminal: control characters, closed pipes, missing streams."""

from __future__ import annotations

import contextlib
import os
import select
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

import click


def printable(text: str, keep: str = "\n\t") -> str:
    """Replace control characters by "�", except those in `keep`.

    Ids and titles come from data, which may hold escape codes.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in keep else "\ufffd" for c in text)


def counted(n: int, noun: str) -> str:
    """As in "1 row" and "2,000 rows"."""
    return f"{n:,} {noun}" if n == 1 else f"{n:,} {noun}s"


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


def next_step(*commands: Sequence[str | int | Path]) -> None:
    """Print on stderr, a line each, the commands that a user may want to type next, quoted for a POSIX shell.

    Each command is its words; a path that starts with a dash is written so that it is no option.
    """
    lead = "Next: "
    for words in commands:
        texts = [f"./{w}" if isinstance(w, Path) and str(w).startswith("-") else str(w) for w in words]
        warn(lead + printable(shlex.join(texts), keep=""))
        lead = " " * len(lead)


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
