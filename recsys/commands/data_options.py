"""The options of all commands that read ratings."""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
from click.core import ParameterSource

from recsys.data import DUPLICATES, ITEM_KEYS
from recsys.errors import ConfigError
from recsys.project_file import option_words

if TYPE_CHECKING:
    from recsys.data.interactions import Interactions

Command = TypeVar("Command", bound=Callable[..., Any])

from_file_option = click.option(
    "--from-file",
    type=click.Path(exists=True, path_type=Path),
    help="A zip or an unpacked folder of the data set known by name, instead of a download.",
)

_OPTIONS = (
    from_file_option,
    click.option("--user-column", metavar="NAME", help="Column of user ids. [default: user_id, userId, …]"),
    click.option("--item-column", metavar="NAME", help="Column of item ids. [default: item_id, movieId, …]"),
    click.option(
        "--rating-column",
        metavar="NAME",
        help="Column of ratings. [default: rating; without one, rows are likes]",
    ),
    click.option(
        "--implicit",
        is_flag=True,
        help="Read no ratings: each row is a like, a purchase or a play, and parts that rank are trained.",
    ),
    click.option(
        "--timestamp-column",
        metavar="NAME",
        help="Column of times: seconds or milliseconds since 1970, or ISO dates; '' for none. "
        "[default: timestamp, if there]",
    ),
    click.option(
        "--delimiter",
        metavar="CHARACTER",
        help="What separates the cells of text, such as tab. [default: a comma; in .tsv a tab]",
    ),
    click.option(
        "--heading",
        metavar="NAMES",
        help="Columns of text whose first line is data, in order: user_id,item_id,rating.",
    ),
    click.option(
        "--item-key",
        type=click.Choice(ITEM_KEYS),
        default="id",
        show_default=True,
        help="Identity of items; 'title' merges items with the same title.",
    ),
    click.option(
        "--duplicates",
        type=click.Choice(DUPLICATES),
        default="error",
        show_default=True,
        help="For several ratings of an item by a user: refuse the data, keep the last, or take the mean. "
        "Likes count once.",
    ),
)

_FEATURE_OPTIONS = tuple(
    click.option(
        f"--{whose}-features",
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        metavar="FILE",
        help=f"A file (text or Parquet) with a row for each {whose}: its id and features (numbers, "
        f"categories, lists separated by '|').",
    )
    for whose in ("user", "item")
)


def data_options(command: Command) -> Command:
    """Add the options of `load_from_options`."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def training_data_options(command: Command) -> Command:
    """Add the options of `load_from_options`, those of features among them."""
    for option in reversed(_FEATURE_OPTIONS):
        command = option(command)
    return data_options(command)


DATA_OPTIONS = [option.name or "" for option in click.command()(data_options(lambda: None)).params]
"""Names of the parameters that `data_options` adds."""
TRAINING_DATA_OPTIONS = [
    option.name or "" for option in click.command()(training_data_options(lambda: None)).params
]
"""Names of the parameters that `training_data_options` adds."""


def flags_given(ctx: click.Context, names: Collection[str]) -> list[str]:
    """The flags of those of these parameters that are on the command line."""
    return [
        parameter.opts[0]
        for parameter in ctx.command.params
        if parameter.name in names and ctx.get_parameter_source(parameter.name) is ParameterSource.COMMANDLINE
    ]


def words_given(ctx: click.Context, names: Collection[str]) -> list[str]:
    """Those of these options that somebody set, as words of the command line.

    Those of `recsys.toml`, too: there they are settings of one command, and the words are for another.
    """
    words, given = [], (ParameterSource.COMMANDLINE, ParameterSource.DEFAULT_MAP)
    for option in ctx.command.params:
        name = option.name or ""
        if isinstance(option, click.Option) and name in names and ctx.get_parameter_source(name) in given:
            words += option_words(option, ctx.params[name])
    return words


def load_from_options(source: str, **options: Any) -> Interactions:
    """Read the ratings of `source`, a known name or a path, with the options of `data_options` or
    `training_data_options`.

    Raises:
        DataError, DownloadError, ConfigError: as `recsys.data.load`; or a column of ratings and --implicit.
    """
    from recsys.data import Columns, load

    if options.pop("implicit", False):
        if options.get("rating_column"):
            raise ConfigError(
                "--implicit reads no ratings, so it has no --rating-column: leave one of them out"
            )
        options["rating_column"] = ""
    names = [options.pop(f"{role}_column", None) for role in ("user", "item", "rating", "timestamp")]
    return load(source, columns=Columns(*names), **options)


def load_valid_data(source: str | None, options: dict[str, Any]) -> Interactions | None:
    """Read the file of held-out ratings `source` like the other ratings; None: there is none.

    Raises:
        DataError, ConfigError: as `recsys.data.load`.
    """
    unused = dict.fromkeys(("from_file", "user_features", "item_features"))
    return load_from_options(source, **options | unused) if source else None
