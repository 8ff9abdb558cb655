"""`recsys tune`: search for the parts, strengths and weights that suit a data set."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from recsys.commands.data_options import load_from_options, training_data_options
from serve.reading.options import Integer

if TYPE_CHECKING:
    from recsys.training.tune import Tuned


@click.command()
@click.option("--data", metavar="NAME_OR_PATH", required=True, help="The ratings.")
@training_data_options
@click.option(
    "--minutes",
    type=click.FloatRange(min=0, min_open=True),
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
@click.option("--overwrite", is_flag=True, help="Replace the file, if it is there.")
def tune(data: str, minutes: float, output: Path, seed: int, overwrite: bool, **options: Any) -> None:
    """Search for the parts, strengths and weights that rank this data's held-out ratings best.

    A fifth of each user's ratings is held out to compare settings by, and is no part of the training. The
    best ones become a config file for `recsys train --config`.

    \b
      recsys tune --data ratings.csv --minutes 10 --output recsys.toml
      recsys train --config recsys.toml --data ratings.csv --output runs/mine
    """
    from recsys.console import Console
    from recsys.errors import ConfigError
    from recsys.training.tune import Trial
    from recsys.training.tune import tune as search
    from serve.files.atomic import write_file

    if output.exists() and not overwrite:
        raise ConfigError(f"{output} is there: replace it with --overwrite, or choose another --output")
    interactions = load_from_options(data, **options)
    console = Console(soft_wrap=True)
    console.print("nDCG@10   seconds   setting", style="bold")

    def show(trial: Trial) -> None:
        settings = ", ".join(f"{name} {value:g}" for name, value in trial.settings.items())
        console.print(
            f"{trial.ndcg:7.4f}{trial.seconds:10.1f}   {trial.name} {settings}", highlight=False, markup=False
        )

    found = search(interactions, 60 * minutes, ratings=not interactions.implicit, seed=seed, on_trial=show)
    write_file(output, as_toml(found).encode())
    console.print(
        f"\n{output}: nDCG@10 {found.ndcg:.4f} on ratings that were held out of the search. Train with:\n"
        f"  recsys train --config {output} --data {data} --output runs/tuned",
        highlight=False,
        markup=False,
    )


def as_toml(found: Tuned) -> str:
    """The config file of the best parts."""
    lines = [f"# Found by `recsys tune`: nDCG@10 {found.ndcg:.4f} on held-out ratings."]
    if found.rating_weight:
        lines.append(f"rating-weight = {found.rating_weight:g}")
    for part in found.parts:
        lines += ["", "[[part]]", *(f"{name} = {_value(value)}" for name, value in part.items())]
    return "\n".join(lines) + "\n"


def _value(value: str | float) -> str:
    return f'"{value}"' if isinstance(value, str) else repr(value)
