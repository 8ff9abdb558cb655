"""`recsys similar`: the items most like an item."""

from __future__ import annotations

from pathlib import Path

import click

from serve.commands.options import (
    alternatives,
    bundle_argument,
    device_option,
    item_fields,
    json_option,
    load,
    print_similar,
    top_k_option,
)


@click.command()
@bundle_argument
@click.option("--item-id", help="The item, by the id that the data has.")
@click.option("--item", metavar="TITLE", help="The item, by its title, with or without the year.")
@top_k_option
@device_option
@json_option
def similar(
    bundle: Path, item_id: str | None, item: str | None, top_k: int | None, device: str, as_json: bool
) -> None:
    """Find the items most like an item of BUNDLE: those whose factors point the same way.

    \b
      recsys similar artifacts/default --item "Toy Story (1995)"
      recsys similar artifacts/default --item-id 1
    """
    item_id, item = alternatives("item_id", "item")
    if (item_id is None) == (item is None):
        raise click.UsageError("Name the item by either --item-id or --item.")
    recommender = load(bundle, device)
    items = recommender.items
    wanted = items.ids.parse(item_id) if item_id is not None else items[items.resolve(item or "")].item_id
    ranking = recommender.similar_items(wanted, top_k)
    found = item_fields(items.ids.lookup_one(wanted), items)
    print_similar(ranking, items, as_json, **found)
