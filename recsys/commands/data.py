"""`recsys data`: download a data set, look at one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from recsys.commands.data_options import (
    TRAINING_DATA_OPTIONS,
    from_file_option,
    load_from_options,
    training_data_options,
    words_given,
)
from recsys.commands.next_steps import free
from recsys.data.catalog import KNOWN
from serve.terminal import next_step


@click.group()
def data() -> None:
    """Download, read and describe rating data sets.

    \b
    Known by name: ml-latest-small (in the package), ml-100k, ml-1m, ml-20m, ml-25m, ml-32m.
    """


@data.command()
@click.argument("name", type=click.Choice(list(KNOWN)), metavar="NAME")
@from_file_option
def download(name: str, from_file: Path | None) -> None:
    """Download the data set NAME into the cache, and check it.

    --from-file copies a zip from elsewhere, if it is the published one. The cache is $RECSYS_CACHE, or the
    system's folder for caches.
    """
    from recsys.console import Console
    from recsys.data.download import fetch, keep

    known = KNOWN[name]
    path = keep(known, from_file) if from_file else fetch(known)
    console = Console(highlight=False, soft_wrap=True)
    console.print(
        f"{name}: {known.n_ratings:,} ratings, {known.bytes:,} bytes, SHA-256 {known.sha256} (checked)"
    )
    console.print(f"Terms:  {known.licence}", markup=False)
    console.print(f"Source: {known.url}", markup=False)
    console.print(f"File:   {path}", markup=False)
    next_step(["recsys", "train", "--data", name, "--output", free(Path("runs", name))])


@data.command()
@click.argument("source", metavar="NAME_OR_PATH")
@training_data_options
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, for machines.")
@click.pass_context
def describe(ctx: click.Context, /, source: str, as_json: bool, **options: Any) -> None:
    """Describe NAME_OR_PATH: counts, first rows, titles, a corner of the crosstab, the ratings.

    NAME_OR_PATH is a name as of `recsys data --help`; a CSV, TSV, JSON lines, Parquet or RecBole .inter
    file, also compressed, a folder or a quoted glob of such files; or a folder or zip in MovieLens' or
    RecBole's layout.
    """
    from recsys.commands.data_view import views_as_json, views_as_text

    interactions = load_from_options(source, **options)
    if as_json:
        click.echo(views_as_json(interactions))
        return
    click.echo(views_as_text(interactions))
    reading = words_given(ctx, TRAINING_DATA_OPTIONS)
    next_step(["recsys", "train", "--data", source, *reading, "--output", free(Path("runs", "mine"))])
