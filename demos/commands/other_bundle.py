"""The second bundle of a command that compares two."""

from __future__ import annotations

from pathlib import Path

import click

other_argument = click.argument(
    "other", metavar="[OTHER]", required=False, type=click.Path(exists=True, path_type=Path)
)
