"""`recsys recommend`: the best items for a user."""

from __future__ import annotations

from pathlib import Path

import click

from serve.commands.options import (
    bundle_argument,
    device_option,
    json_option,
    listed,
    print_items,
    print_json,
    top_k_option,
)


@click.command()
@bundle_argument
@click.option("--user-id", required=True, help="The user, by the id that the data has.")
@top_k_option
@click.option("--include-seen", is_flag=True, help="List items that the user has rated, too.")
@click.option(
    "--unknown",
    type=click.Choice(["average", "error"]),
    default="average",
    show_default=True,
    help="What a user who is not in the bundle gets: the average user's list, or an error.",
)
@device_option
@json_option
def recommend(
    bundle: Path, user_id: str, top_k: int, include_seen: bool, unknown: str, device: str, as_json: bool
) -> None:
    """Recommend items to a user of BUNDLE.

    \b
      recsys recommend artifacts/default --user-id 42 -k 10
    """
    from serve.recommender import Recommender

    recommender = Recommender.load(bundle, device)  # type: ignore[arg-type]
    user = recommender.users.parse(user_id)
    ranking = recommender.recommend(user, top_k, exclude_seen=not include_seen, unknown=unknown)  # type: ignore[arg-type]
    entries = listed(ranking, recommender.items)
    if as_json:
        print_json({"user_id": user, "known": ranking.known, "items": entries})
        return
    if not ranking.known:
        click.echo(f"User {user} is not in this bundle: the average user's recommendations.\n")
    print_items(entries, "score")
