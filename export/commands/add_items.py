"""`recsys add-items`: items that came after training, folded in from the ratings that they have."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from recsys.commands.data_options import data_options, load_from_options
from serve.commands.options import bundle_argument, bundle_output_option, json_option, overwrite_option
from serve.reading.options import Number
from serve.terminal import counted, next_step, warn

if TYPE_CHECKING:
    import pandas as pd

    from recsys.data.interactions import Interactions
    from serve.bundle.changes import Addition


@click.command("add-items")
@bundle_argument
@click.option(
    "--ratings", metavar="NAME_OR_PATH", required=True, help="Ratings of the new items by the bundle's users."
)
@bundle_output_option
@click.option(
    "--items",
    "items_file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Titles of the new items: a file (text or Parquet) with item_id, title, and perhaps genres, year, "
    "and the numbers of the bundle's rules.",
)
@click.option(
    "--regularization",
    type=Number(),
    help="Pull of the predicted ratings of a new item towards the average item. [default: by leaving each "
    "rating out in turn]",
)
@data_options
@overwrite_option
@json_option
@click.pass_context
def add_items(
    ctx: click.Context,
    /,
    bundle: Path,
    ratings: str,
    output: Path,
    items_file: Path | None,
    regularization: float | None,
    overwrite: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Make a new bundle: BUNDLE, and the items in --ratings that it does not have.

    Nothing is trained. Each new item's row is solved from its ratings (ridge regression), as fold-in does
    for a new user; every other score stays as it was, bit for bit. Ratings of items that BUNDLE has, and
    ratings by users that it does not have, are counted and left out. For every model but mlp.

    \b
      recsys add-items artifacts/mine --ratings new.csv --items titles.csv --output artifacts/mine-2
    """
    import msgspec

    from export.add_items.add_items import add_items as add
    from recsys.console import Console
    from recsys.data.odd_ids import odd_ids
    from serve.bundle.ids import IdIndex
    from serve.bundle.item_rules import N_RATINGS, YEAR
    from serve.bundle.manifest import read_manifest

    manifest = read_manifest(bundle)
    rules = manifest.item_rules
    numbers = [name for name in (rules.numbers if rules else []) if name not in (N_RATINGS, YEAR)]
    if ctx.get_parameter_source("item_key") is ParameterSource.DEFAULT:
        options["item_key"] = manifest.data.item_key
    n_users = manifest.model.n_users, manifest.n_forgotten
    types = {"user": IdIndex.read(bundle / "users.parquet", "user_id", *n_users).type}
    if options["item_key"] == "id":  # else the ids are titles
        types["item"] = IdIndex.read(bundle / "items.parquet", "item_id", manifest.model.n_items).type
    data = load_from_options(ratings, **options, id_types=types)
    if items_file is not None:
        data = _described(data, _details(items_file, options["item_column"], numbers), items_file)
    for odd in odd_ids("item", data.items["item_id"]):
        warn(f"{data.name}: {odd}")
    console = Console(stderr=as_json)
    with console.status("") as status:
        made = add(
            bundle,
            data,
            output,
            regularization=regularization,
            overwrite=overwrite,
            progress=lambda step: status.update(f"{step}…"),
        )
    added = data.items[data.items["item_id"].isin(made.additions[-1].item_ids)]
    if missing := [name for name in numbers if name not in added or added[name].isna().all()]:
        warn(f"the new items have no {', '.join(missing)}: rules with a least number of it leave them out")
    n_untitled = int(added["title"].isna().sum()) if "title" in added else len(added)
    if items_file is not None and n_untitled:
        warn(f"{items_file} has no title for {n_untitled:,} of the {len(added):,} items")
    if as_json:
        click.echo(msgspec.json.encode(made.additions[-1]))
        return
    click.echo("\n".join(_lines(made.additions[-1], data.timestamps is not None)))
    for graph, why in made.left_out.items():
        click.echo(f"Without {graph}.onnx: {why}")
    click.echo(f"Bundle: {output}")
    if "similar_items" in made.graphs:
        next_step(["recsys", "similar", output, "--item-id", made.additions[-1].item_ids[0]])


def _details(file: Path, item_column: str | None, numbers: Sequence[str]) -> pd.DataFrame:
    """What a file says of items, with those `numbers` that it has; see `read_items`.

    Raises:
        DataError: a number is text; and as `read_items` and `read_features`.
    """
    from recsys.data.feature_files import read_features
    from recsys.data.items import read_items
    from recsys.errors import DataError
    from serve.reading.files import open_source

    details = read_items(file, item_column)
    found = [name for name in numbers if name in open_source(file).schema.names]
    if not found:
        return details
    features = read_features(file, "items", item_column).features[found]  # in the rows' order, as the details
    for name, column in features.items():
        if column.dtype != "float64":
            raise DataError(f"{file}: {name} is a number in this bundle, and some cells here are text.")
    return details.assign(**features)


def _described(data: Interactions, details: pd.DataFrame, file: Path) -> Interactions:
    """The ratings with their items described by `details` from `file`, and else by the ratings themselves.

    Raises:
        DataError: `details` has none of these items.
    """
    from recsys.data.items import ids_like
    from recsys.errors import DataError

    ids = data.items["item_id"]
    described = ids_like(details["item_id"], ids)
    if (repeated := described[described.notna() & described.duplicated()]).any():
        raise DataError(f"{file}: ids are repeated, such as {repeated.tolist()[0]!r}. Keep one row for each.")
    if not ids.isin(described).any():
        theirs, rated = (frame["item_id"].tolist()[-1] for frame in (details, data.items))
        raise DataError(
            f"{file} describes no item of {data.name}: its item ids are like {theirs!r}, those of the "
            f"ratings like {rated!r}."
        )
    usable = described.notna()
    details = details[usable].drop(columns="item_id").set_index(described[usable])
    matched = details.reindex(ids).reset_index(drop=True)
    return replace(data, items=matched.combine_first(data.items))


def _lines(addition: Addition, has_times: bool) -> list[str]:
    """What was added, and what was left out."""
    counts = addition.n_item_ratings
    left_out = {
        "Ratings left out, of items that the bundle has already": addition.n_known_items,
        "Ratings left out, by users that the bundle does not have": addition.n_unknown_users,
        "Items left out, which only such users have rated": addition.n_items_left_out,
    }
    lines = [
        f"Added {counted(len(counts), 'item')} from {counted(sum(counts), 'rating')}, {min(counts):,} to "
        f"{max(counts):,} each.",
        *(f"{what}: {n:,}." for what, n in left_out.items() if n),
    ]
    if not has_times:
        lines.append("The ratings have no times: each gets the time of the bundle's latest.")
    if addition.regularization is None:
        return lines
    chosen = f"Regularization {addition.regularization:g}"
    if addition.left_out_rmse is not None:
        chosen += f"; RMSE of ratings predicted from the others of their item: {addition.left_out_rmse:.4f}"
    return [*lines, f"{chosen}."]
