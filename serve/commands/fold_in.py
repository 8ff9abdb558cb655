"""`recsys fold-in`: recommendations for a new user, from a few ratings."""

from __future__ import annotations

from pathlib import Path

import click

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


def _parse_rates(
    context: click.Context, option: click.Parameter, values: tuple[str, ...]
) -> list[tuple[str, float]]:
    return item_values(values, float, "TITLE_OR_ID=RATING, such as 'Toy Story (1995)=5'")


@click.command()
@bundle_argument
@click.option(
    "--rate",
    "rates",
    callback=_parse_rates,
    multiple=True,
    required=True,
    metavar="TITLE_OR_ID=RATING",
    help="A rating of an item, by its title or id (where it could be either: id:1 or title:1); repeat it.",
)
@top_k_option
@device_option
@json_option
def fold_in(
    bundle: Path, rates: list[tuple[str, float]], top_k: int | None, device: str, as_json: bool
) -> None:
    """Recommend to a user who is not in BUNDLE, from a few ratings; nothing is trained.

    \b
      recsys fold-in artifacts/default --rate "Toy Story (1995)=5" --rate "Heat (1995)=2"
    """
    recommender = load(bundle, device, "fold_in")
    items = recommender.items
    rated = [item_fields(items.resolve(text), items) for text, _ in rates]
    ratings = [rating for _, rating in rates]
    ranking = recommender.fold_in([entry["item_id"] for entry in rated], ratings, top_k)
    echoed = [{**entry, "rating": rating} for entry, rating in zip(rated, ratings, strict=True)]
    print_recommended(ranking, recommender, as_json, ratings=echoed)
