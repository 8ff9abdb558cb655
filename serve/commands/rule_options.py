"""The options of rules for lists, and the `Rules` that they make."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import click

from serve.reading.cells import parse_integer, parse_number
from serve.reading.options import IntegerRange

if TYPE_CHECKING:
    from serve.bundle.items import Catalogue
    from serve.runtime.rules import Rules

Command = TypeVar("Command", bound=Callable[..., Any])


def _parse_years(
    context: click.Context, option: click.Parameter, text: str | None
) -> tuple[int | None, int | None]:
    """The ends of "1990-1999", "1990-", "-1999" and "1990"."""
    if text is None:
        return None, None
    low, dash, high = text.partition("-")
    ends = [parse_integer(end) if end.strip() else None for end in (low, high if dash else low)]
    if ends == [None, None] or any(
        end is None and part.strip() for end, part in zip(ends, (low, high), strict=True)
    ):
        raise click.BadParameter(f"{text!r} is no range of years such as 1990-1999, 1990- or -1999.")
    return ends[0], ends[1]


def _parse_bounds(context: click.Context, option: click.Parameter, texts: Sequence[str]) -> dict[str, float]:
    """Numbers by name, of texts such as "price=9.5"."""
    bounds: dict[str, float] = {}
    for text in texts:
        name, _, number = text.rpartition("=")
        if not name:
            raise click.BadParameter(f"{text!r} is not a name and a number, such as price=10.")
        if name in bounds:
            raise click.BadParameter(f"{name!r} is named twice.")
        try:
            bounds[name] = parse_number(number)
        except ValueError as error:
            raise click.BadParameter(f"{text!r}: {error}.") from None
    return bounds


OPTIONS = (
    click.option(
        "--allow", multiple=True, metavar="TITLE_OR_ID", help="List only this item; repeat it for several."
    ),
    click.option("--deny", multiple=True, metavar="TITLE_OR_ID", help="Never list this item; repeat it."),
    click.option(
        "--category",
        "categories",
        multiple=True,
        metavar="NAME",
        help="List only items of this genre; repeat it for any of several.",
    ),
    click.option(
        "--not-category",
        "not_categories",
        multiple=True,
        metavar="NAME",
        help="List no item of this genre; repeat it.",
    ),
    click.option(
        "--min-ratings", type=IntegerRange(0), help="List only items with at least as many training ratings."
    ),
    click.option("--max-ratings", type=IntegerRange(0), help="List only items with at most as many."),
    click.option(
        "--years",
        callback=_parse_years,
        metavar="FIRST-LAST",
        help="List only items of these years; 1990- and -1999, too.",
    ),
    click.option(
        "--at-least",
        multiple=True,
        callback=_parse_bounds,
        metavar="NAME=NUMBER",
        help="List only items with at least so much of a number of theirs, such as price=10; repeat it.",
    ),
    click.option(
        "--at-most",
        multiple=True,
        callback=_parse_bounds,
        metavar="NAME=NUMBER",
        help="List only items with at most so much; repeat it.",
    ),
)
NAMES = {"allow", "deny", "categories", "not_categories", "min_ratings", "max_ratings", "years"}
NAMES |= {"at_least", "at_most"}
"""The parameters."""


def rule_options(command: Command) -> Command:
    """Add the options of rules."""
    for option in reversed(OPTIONS):
        command = option(command)
    return command


def rules_of(options: dict[str, Any], items: Callable[[], Catalogue]) -> Rules | None:
    """Take the options out of a command's, as `Rules`; None where none is given.

    `items` gives the items of the bundle, and is called only where some are named.

    Raises RequestError: a name of no item, or of several.
    """
    given = {name: options.pop(name) for name in NAMES}
    given["min_year"], given["max_year"] = given.pop("years")
    least, most = given.pop("at_least"), given.pop("at_most")
    given["numbers"] = {name: (least.get(name), most.get(name)) for name in {**least, **most}}
    if not any(value or value == 0 for value in given.values()):
        return None
    from serve.runtime.rules import Rules

    for name in ("allow", "deny"):
        given[name] = [items()[items().resolve(text)].item_id for text in given[name]]
    given["allow"] = given["allow"] or None
    return Rules(**given)
