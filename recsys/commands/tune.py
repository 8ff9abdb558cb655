"""`recsys tune`: search for the parts, strengths and weights that suit a data set."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from recsys.commands.data_options import (
    TRAINING_DATA_OPTIONS,
    load_from_options,
    training_data_options,
    words_given,
)
from recsys.commands.next_steps import free
from recsys.errors import ConfigError
from recsys.project_file import read_toml
from serve.reading.options import Integer, NumberRange
from serve.terminal import next_step

if TYPE_CHECKING:
    from recsys.training.tune import Tuned

HEADING = "# Found by `recsys tune`"
REPLACED = rf"{HEADING}|\s*rating[-_]weight\s*="
"""The lines at the top of a file that a new search replaces."""


@click.command()
@click.option("--data", metavar="NAME_OR_PATH", required=True, help="The ratings.")
@training_data_options
@click.option(
    "--minutes",
    type=NumberRange(min=0, min_open=True),
    default=10.0,
    show_default=True,
    help="How long to search; every part is tried once in any case.",
)
@click.option(
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    default=Path("recsys.toml"),
    show_default=True,
    metavar="TOML",
    help="Config file to write.",
)
@click.option(
    "--seed", type=Integer(), default=42, show_default=True, help="Seed of the split and the draws."
)
@click.option(
    "--overwrite",
    is_flag=True,
    help="Replace the parts in the file, if it is there; its other settings stay.",
)
@click.pass_context
def tune(
    ctx: click.Context,
    /,
    data: str,
    minutes: float,
    output: Path,
    seed: int,
    overwrite: bool,
    **options: Any,
) -> None:
    """Search for the parts, strengths and weights that rank this data's held-out ratings best.

    A fifth of each user's ratings is held out to compare settings by, and is no part of the training. The
    best ones become a config file for `recsys train --config`.

    \b
      recsys tune --data ratings.csv --minutes 10 --output recsys.toml
      recsys train --config recsys.toml --data ratings.csv --output runs/mine
    """
    from recsys.console import Console
    from recsys.training.tune import Trial
    from recsys.training.tune import tune as search
    from serve.files.atomic import write_file

    if output.exists() and not overwrite:
        raise ConfigError(
            f"{output} is there: replace its parts with --overwrite, or choose another --output"
        )
    with_parts(_text(output), "", output)  # fails before the search, not after it
    interactions = load_from_options(data, **options)
    console = Console(soft_wrap=True)
    console.print("nDCG@10   seconds   setting", style="bold")

    def show(trial: Trial) -> None:
        settings = ", ".join(f"{name} {value:g}" for name, value in trial.settings.items())
        console.print(
            f"{trial.ndcg:7.4f}{trial.seconds:10.1f}   {trial.name} {settings}", highlight=False, markup=False
        )

    found = search(interactions, 60 * minutes, ratings=not interactions.implicit, seed=seed, on_trial=show)
    write_file(output, with_parts(_text(output), as_toml(found), output).encode())
    console.print(
        f"\n{output}: nDCG@10 {found.ndcg:.4f} on ratings that were held out of the search",
        highlight=False,
        markup=False,
    )
    reading = words_given(ctx, TRAINING_DATA_OPTIONS)
    run = free(Path("runs", "tuned"))
    next_step(["recsys", "train", "--config", output, "--data", data, *reading, "--output", run])


def as_toml(found: Tuned) -> str:
    """The config file of the best parts."""
    lines = [f"{HEADING}: nDCG@10 {found.ndcg:.4f} on held-out ratings."]
    if found.rating_weight:
        lines.append(f"rating-weight = {found.rating_weight:g}")
    for part in found.parts:
        lines += ["", "[[part]]", *(f"{name} = {_value(value)}" for name, value in part.items())]
    return "\n".join(lines) + "\n"


def with_parts(text: str, found: str, file: Path) -> str:
    """The text of a config file with `found` (`as_toml`) instead of its parts and its rating weight.

    All other lines stay, comments too.

    Raises:
        ConfigError: its lines can't be told apart, such as brackets within a text of several lines.
    """
    top, *tables = re.split(r"^(?=[ \t]*\[)", text, flags=re.MULTILINE)
    top = "".join(line for line in top.splitlines(True) if not re.match(REPLACED, line)).strip("\n")
    kept = "".join(table for table in tables if not re.match(r"[ \t]*\[\[\s*part\s*\]\]", table)).strip("\n")
    heading, _, parts = found.partition("\n\n")
    made = "\n\n".join(block for block in (f"{heading}\n{top}".strip("\n"), parts.strip("\n"), kept) if block)
    try:
        same = _others(tomllib.loads(made)) == _others(tomllib.loads(text))
    except tomllib.TOMLDecodeError:
        same = False
    if not same:
        raise ConfigError(f"the parts in {file} can't be replaced: choose another --output")
    return made + "\n"


def _others(settings: dict[str, Any]) -> dict[str, Any]:
    """What a search leaves alone."""
    ours = ("part", "rating-weight", "rating_weight")
    return {name: value for name, value in settings.items() if name not in ours}


def _text(file: Path) -> str:
    """The text of a config file; "" if there is none. Raises ConfigError: it can't be read, or is no TOML."""
    if not file.exists():
        return ""
    read_toml(file)
    return file.read_text(encoding="utf-8-sig")


def _value(value: str | float) -> str:
    return f'"{value}"' if isinstance(value, str) else repr(value)
