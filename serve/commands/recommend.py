"""`recsys recommend`: the best items for a user, or for many."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from serve.commands.batch_options import batch_options, run_and_report
from serve.commands.options import (
    bundle_argument,
    listed,
    print_items,
    print_json,
    top_k_option,
)

FOR_ONE = {"bundle", "user_id", "top_k", "include_seen", "unknown", "device", "as_json"}
"""Parameters that a list for one user takes; the others are for many."""


@click.command()
@bundle_argument
@click.option("--user-id", help="One user, by the id that the data has.")
@click.option(
    "--input", help="Many users: a Parquet, CSV or TSV file, a folder, or a quoted glob, with user_id."
)
@click.option("--all-users", is_flag=True, help="Every user of the bundle.")
@top_k_option
@click.option("--include-seen", is_flag=True, help="List items that the user has rated, too.")
@click.option("--explode", is_flag=True, help="Many users: one row for each item, not for each user.")
@batch_options(
    unknown="A user who is not in the bundle: the average user's list, none (many users only), or an error."
)
@click.pass_context
def recommend(
    ctx: click.Context,
    /,
    bundle: Path,
    user_id: str | None,
    input: str | None,
    all_users: bool,
    top_k: int | None,
    include_seen: bool,
    explode: bool,
    unknown: Any,
    as_json: bool,
    **options: Any,
) -> None:
    """Recommend items of BUNDLE to a user, or to many.

    For one user the list is printed. For many, a folder is written: one row for each user with item_ids and
    scores, best first; memory does not grow with the input, and a stopped job goes on with --resume.

    \b
    Examples:
      recsys recommend artifacts/default --user-id 42 -k 10
      recsys recommend artifacts/default --all-users --output lists
      recsys recommend artifacts/default --input users.csv --output lists --explode --format csv
    """
    if (user_id is not None) + (input is not None) + all_users != 1:
        raise click.UsageError("Take one of --user-id, --input and --all-users.")
    if user_id is not None:
        _check_for_one(ctx)
        _recommend_to_one(bundle, user_id, top_k, include_seen, unknown, options["device"], as_json)
        return
    from serve.batch.recommend import Recommend

    task = Recommend(top_k=top_k, exclude_seen=not include_seen, explode=explode, unknown=unknown)
    run_and_report(task, bundle, input, options, as_json)


def _check_for_one(ctx: click.Context) -> None:
    """Refuse what only a batch can do, rather than leave it out silently."""
    if ctx.params["unknown"] == "null":
        raise click.UsageError("--unknown null is for many users: --input or --all-users.")
    for name in ctx.params.keys() - FOR_ONE:
        if ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            raise click.UsageError(f"--{name.replace('_', '-')} is for many users: --input or --all-users.")


def _recommend_to_one(
    bundle: Path,
    user_id: str,
    top_k: int | None,
    include_seen: bool,
    unknown: Any,
    device: Any,
    as_json: bool,
) -> None:
    from serve.runtime.recommender import Recommender

    recommender = Recommender.load(bundle, device)
    recommender.check("recommend")
    user = recommender.users.parse(user_id)
    ranking = recommender.recommend(user, top_k, exclude_seen=not include_seen, unknown=unknown)
    entries = listed(ranking, recommender.items)
    if as_json:
        print_json({"user_id": user, "known": ranking.known, "items": entries})
        return
    if not ranking.known:
        click.echo(f"User {user} is not in this bundle: the average user's recommendations.\n")
    print_items(entries, "score")
