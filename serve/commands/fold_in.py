"""`recsys fold-in`: recommendations for a new user, from a few ratings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from serve.commands import rule_options, variety_options
from serve.commands.options import (
    bundle_argument,
    device_option,
    item_fields,
    item_values,
    json_option,
    load,
    print_recommended,
    top_k_option,
)
from serve.commands.rated_file import listed, read_rated
from serve.errors import InputError
from serve.terminal import warn


def _parse_rates(
    context: click.Context, option: click.Parameter, values: tuple[str, ...]
) -> list[tuple[str, float]]:
    from serve.reading.cells import parse_number

    return item_values(values, parse_number, "TITLE_OR_ID=RATING, such as 'Toy Story (1995)=5'")


@click.command()
@bundle_argument
@click.option(
    "--rate",
    "rates",
    callback=_parse_rates,
    multiple=True,
    metavar="TITLE_OR_ID=RATING",
    help="A rating of an item, by its title or id (where it could be either: id:1 or title:1); repeat it.",
)
@click.option(
    "--ratings",
    "file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A file of ratings, such as an export of Letterboxd: columns rating and item_id, or "
    "rating, title and perhaps year.",
)
@rule_options.rule_options
@variety_options.variety_options
@variety_options.explain_option
@top_k_option
@device_option
@json_option
def fold_in(
    bundle: Path,
    rates: list[tuple[str, float]],
    file: Path | None,
    explain: bool,
    top_k: int | None,
    device: str,
    as_json: bool,
    **options: Any,
) -> None:
    """Recommend to a user who is not in BUNDLE, from a few ratings; nothing is trained.

    \b
      recsys fold-in artifacts/default --rate "Toy Story (1995)=5" --rate "Heat (1995)=2"
      recsys fold-in artifacts/default --ratings letterboxd/ratings.csv
      recsys fold-in artifacts/default --rate "Toy Story (1995)=5" --explain
    """
    if not rates and file is None:
        raise click.UsageError("Missing option '--rate' or '--ratings': at least one rating.")
    recommender = load(bundle, device)
    items = recommender.items
    indices = [items.resolve(text) for text, _ in rates]
    ratings = [rating for _, rating in rates]
    if file is not None:
        of_file = read_rated(file, items, recommender.manifest.data.ratings_range)
        if of_file.left_out:
            warn(listed(of_file.left_out, "rating", "left out"))
        indices += of_file.item_indices
        ratings += of_file.ratings
    if not indices:
        raise InputError(f"{file} rates no item of {bundle}.")
    rated = [item_fields(index, items) for index in indices]
    rules = rule_options.rules_of(options, lambda: items)
    variety = variety_options.variety_of(options)
    item_ids = [entry["item_id"] for entry in rated]
    ranking = recommender.fold_in(item_ids, ratings, top_k, rules=rules, variety=variety, reasons=explain)
    echoed = [{**entry, "rating": rating} for entry, rating in zip(rated, ratings, strict=True)]
    print_recommended(ranking, recommender, as_json, variety is not None, ratings=echoed)
