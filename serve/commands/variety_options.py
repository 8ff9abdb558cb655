"""The options of variety and of reasons, and the `Variety` that they make."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from serve.reading.options import IntegerRange, NumberRange

if TYPE_CHECKING:
    from serve.runtime.variety import Variety

Command = TypeVar("Command", bound=Callable[..., Any])

OPTIONS = (
    click.option(
        "--diversity",
        type=NumberRange(0, 1),
        metavar="W",
        help="0 to 1: how much an item counts that is unlike those above it, against its score. [default: 0]",
    ),
    click.option(
        "--surprise",
        type=NumberRange(-1, 1),
        metavar="W",
        help="-1 to 1: towards items that few know, or below 0 towards the familiar. [default: 0]",
    ),
    click.option(
        "--max-per-category",
        type=IntegerRange(1),
        metavar="N",
        help="At most N items of one genre, as long as others are left.",
    ),
)
NAMES = {"diversity", "surprise", "max_per_category"}
"""The parameters."""
explain_option = click.option(
    "--explain", is_flag=True, help="Say for each item which of the user's ratings raise its score most."
)


def variety_options(command: Command) -> Command:
    """Add the options of variety."""
    for option in reversed(OPTIONS):
        command = option(command)
    return command


def variety_of(options: dict[str, Any]) -> Variety | None:
    """Take the options out of a command's, as `Variety`; None where they change nothing."""
    given = {name: options.pop(name) for name in NAMES}
    given = {name: value for name, value in given.items() if value is not None}
    if not any(given.values()):
        return None
    from serve.runtime.variety import Variety

    return Variety(**given)
