"""`recsys evaluate`: measure a run through torch, or a bundle through onnxruntime."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from recsys.commands.data_options import (
    DATA_OPTIONS,
    data_options,
    flags_given,
    load_from_options,
    load_valid_data,
)
from recsys.commands.next_steps import bundle_of, export_words
from recsys.data.splits import GIVEN_SHARE
from serve.bundle.summary import summary
from serve.commands.options import device_option, json_option
from serve.reading.options import IntegerRange, NumberRange
from serve.terminal import counted, next_step

if TYPE_CHECKING:
    from recsys.data.interactions import Interactions
    from serve.runtime.recommender import Recommender


@click.command()
@click.argument("run_or_bundle", type=click.Path(exists=True, path_type=Path))
@click.option(
    "-k",
    "k",
    type=IntegerRange(min=1),
    help="Length of the lists. [default: 10, or all that can be ranked]",
)
@click.option(
    "--data", metavar="NAME_OR_PATH", help="Ratings that a bundle was trained on. [default: by its name]"
)
@click.option(
    "--valid-data", metavar="PATH", help="Held-out ratings of a bundle that was trained with --valid-data."
)
@data_options
@click.option(
    "--given-share",
    type=NumberRange(0, 1, max_open=True),
    default=GIVEN_SHARE,
    show_default=True,
    help="Of a bundle trained with --split by-user: share of the ratings of each held-out user to fold in.",
)
@device_option
@json_option
@click.pass_context
def evaluate(
    ctx: click.Context,
    /,
    run_or_bundle: Path,
    k: int | None,
    data: str | None,
    valid_data: str | None,
    given_share: float,
    device: Any,
    as_json: bool,
    **options: Any,
) -> None:
    """Measure RUN_OR_BUNDLE on the ratings that were held out of its training.

    RMSE and MAE are in ratings. The rest ranks every item that the user has not rated in training, and counts
    the held-out ones, whatever their rating. Beside the model stand what needs no model: the mean rating;
    damped biases of users and items; and the most rated items.

    A run holds its ratings. A bundle does not: the data set is read again by its name, or as --data and the
    options beside it say, checked against the bundle's checksum, and split by the bundle's recipe. A bundle
    is measured through onnxruntime alone, without torch.

    Where whole users were held out (--split by-user), a bundle folds them in from --given-share of their
    ratings and is measured by the rest; a run, which has no fold-in, gives them the average user's answers.
    """
    bundle_options = ["data", "valid_data", "given_share", *DATA_OPTIONS]
    next_words: list[str | Path] = ["recsys", "demo", run_or_bundle]
    if (run_or_bundle / "run.json").is_file():
        if given := flags_given(ctx, bundle_options):
            raise click.UsageError(
                f"a run holds its own ratings and has no fold-in: leave out {', '.join(given)}."
            )
        from recsys.training.checkpoint import load_run
        from recsys.training.evaluate_run import evaluate_run

        result = evaluate_run(load_run(run_or_bundle), k, device)
        bundle = bundle_of(run_or_bundle)
        next_words = export_words(run_or_bundle)
        if bundle.exists():  # most often of this run
            next_words = ["recsys", "verify", bundle, "--run", run_or_bundle]
    else:
        from export.verify.evaluate_bundle import evaluate_bundle
        from serve.bundle.shards import list_graphs
        from serve.runtime.recommender import Recommender

        recommender = Recommender.load(run_or_bundle, device)
        split = recommender.manifest.split.get("kind")
        lists = list_graphs(recommender.manifest.graphs)
        recommender.check("score", *lists, *(["fold_in"] if split == "by-user" else []))
        if split != "by-user" and flags_given(ctx, ["given_share"]):
            raise click.UsageError(f"--given-share goes with a split by user, and this bundle's is {split}.")
        if split == "valid-data" and not valid_data:
            raise click.UsageError("the bundle was trained with --valid-data: name that file again.")
        ratings = _ratings(ctx, recommender, data, options)
        valid = load_valid_data(valid_data, options)
        result = evaluate_bundle(recommender, ratings, k, valid=valid, given_share=given_share)
    result["summary"] = summary(result)
    if as_json:
        click.echo(json.dumps(result, indent=2))
        return
    _print_table(run_or_bundle, result)
    next_step(next_words)


def _ratings(
    ctx: click.Context, recommender: Recommender, data: str | None, options: dict[str, Any]
) -> Interactions:
    """The ratings in `data`, by default in the bundle's data set."""
    from recsys.data.catalog import KNOWN

    manifest = recommender.manifest
    source = data or manifest.data.name
    if data is None and source not in KNOWN:
        raise click.UsageError(
            f"the bundle was trained on {source!r}, no known data set: name it with --data."
        )
    if ctx.get_parameter_source("item_key") is ParameterSource.DEFAULT:
        options["item_key"] = manifest.data.item_key
    return load_from_options(source, **options)


def _print_table(path: Path, result: dict[str, Any]) -> None:
    from serve.bundle.manifest import METRICS
    from serve.commands.table import format_table

    if result["n_held_out"]:
        rows = [
            [
                name.replace("_", " "),
                *(f"{found[key]:.4f}" if key in found else "-" for key in METRICS.values()),
            ]
            for name, found in {"the model": result, **result["baselines"]}.items()
        ]
        headers = ["", *(title.format(k=result["k"]) for title in METRICS)]
        click.echo(format_table(headers, rows, "<" + ">" * len(METRICS)))
        users = counted(result["n_ranked_users"], "user")
        counts = f"{counted(result['n_held_out'], 'held-out rating')}; lists of {users}"
        click.echo(f"\n{path}: {counts}")
    if new_users := result.get("new_users"):
        click.echo(
            f"Users who were held out whole: {new_users['n_users']:,}. Each is folded in from "
            f"{new_users['given_share']:.0%} of the own ratings, and measured by the rest"
        )
    elif n_new := result.get("n_users_without_ratings"):
        click.echo(f"Users without a rating in the training: {n_new:,}. They got the average user's answers")
    if result["summary"]:
        click.echo(result["summary"])
