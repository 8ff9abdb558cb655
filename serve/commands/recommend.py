"""`recsys recommend`: the best items for one user, or for many."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from serve.commands import rule_options, variety_options
from serve.commands.batch_options import batch_options, run_and_report
from serve.commands.options import (
    alternatives,
    bundle_argument,
    exact_option,
    inapplicable,
    load,
    print_recommended,
    top_k_option,
)

FOR_ONE = {
    *("bundle", "user_id", "top_k", "include_seen", "exact", "unknown", "device", "as_json", "explain"),
    *rule_options.NAMES,
    *variety_options.NAMES,
}
"""Parameters that apply to one user; the others are for many."""


@click.command()
@bundle_argument
@click.option("--user-id", help="One user, by the id that the data has.")
@click.option("--input", help="Many users: a Parquet, CSV or TSV file, a folder, or a quoted glob.")
@click.option("--all-users", is_flag=True, help="Every user of the bundle.")
@top_k_option
@click.option("--include-seen", is_flag=True, help="List items that the user has rated, too.")
@exact_option
@rule_options.rule_options
@variety_options.variety_options
@variety_options.explain_option
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
    exact: bool,
    explain: bool,
    explode: bool,
    unknown: Any,
    as_json: bool,
    **options: Any,
) -> None:
    """Recommend items of BUNDLE to a user, or to many.

    For one user the list is printed. For many, a folder is written: one row for each user with item_ids,
    scores and predicted ratings (where BUNDLE predicts any), best first, ranked exactly. Memory does not
    grow with the input; a stopped job continues with --resume.

    \b
    Examples:
      recsys recommend artifacts/default --user-id 42 -k 10
      recsys recommend artifacts/default --user-id 42 --category Comedy --years 1990-1999
      recsys recommend artifacts/default --user-id 42 --diversity 0.5 --max-per-category 3
      recsys recommend artifacts/default --all-users --output lists
      recsys recommend artifacts/default --input users.csv --output lists --explode --format csv
    """
    user_id, input, all_users = alternatives("user_id", "input", "all_users")
    if (user_id is not None) + (input is not None) + bool(all_users) != 1:
        raise click.UsageError("Take one of --user-id, --input and --all-users.")
    variety = variety_options.variety_of(options)
    if user_id is None:
        if explain:
            inapplicable("explain", "is for one user: --user-id.")
        from serve.batch.recommend import Recommend
        from serve.runtime.recommender import Recommender

        task = Recommend(
            top_k=top_k,
            exclude_seen=not include_seen,
            explode=explode,
            unknown=unknown,
            variety=variety,
            rules=rule_options.rules_of(options, lambda: Recommender.load(bundle, "cpu").items),
        )
        run_and_report(task, bundle, input, options, as_json)
        return
    for name in ctx.params.keys() - FOR_ONE:
        if ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            raise click.UsageError(f"--{name.replace('_', '-')} is for many users: --input or --all-users.")
    if unknown == "null":
        inapplicable("unknown", "null is for many users: --input or --all-users.")
        unknown = "average"
    recommender = load(bundle, options["device"], exact=exact)
    user = recommender.users.parse(user_id)
    rules = rule_options.rules_of(options, lambda: recommender.items)
    ranking = recommender.recommend(
        user,
        top_k,
        exclude_seen=not include_seen,
        rules=rules,
        variety=variety,
        reasons=explain,
        unknown=unknown,
    )
    if not ranking.known and not as_json:
        click.echo(f"User {user} is not in this bundle: the average user's recommendations.\n")
    print_recommended(
        ranking,
        recommender,
        as_json,
        variety is not None,
        user_id=user,
        known=ranking.known,
        graph=ranking.graph,
    )
