"""Lines for whoever reads them: servers go on when nobody does."""

from __future__ import annotations

import contextlib
import os
import sys

import click


def say(line: str) -> None:
    """Print a line on stdout."""
    # Whoever has read it may have gone. That is no reason for those who ask to be left without answers.
    try:
        click.echo(line)
    except BrokenPipeError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
    except (OSError, AttributeError):  # a full disk; no standard output at all
        pass


def warn(line: str) -> None:
    """Print a line on stderr."""
    with contextlib.suppress(OSError):
        click.echo(line, err=True)
