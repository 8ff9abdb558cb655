"""`recsys evaluate`: measure a run through torch, or a bundle through onnxruntime."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from recsys.commands.data_options import data_options, load_from_options

if TYPE_CHECKING:
    from recsys.data.interactions import Interactions
    from serve.recommender import Recommender

COLUMNS = {
    "RMSE": "rmse",
    "MAE": "mae",
    "nDCG@{k}": "ndcg_at_k",
    "recall@{k}": "recall_at_k",
    "precision@{k}": "precision_at_k",
    "MRR@{k}": "mrr_at_k",
    "hit rate@{k}": "hit_rate_at_k",
}


@click.command()
@click.argument("run_or_bundle", type=click.Path(path_type=Path))
@click.option("-k", "k", type=click.IntRange(min=1), default=10, show_default=True, help="Length of the lists.")
@click.option("--data", metavar="NAME_OR_PATH", help="Ratings that a bundle was trained on. [default: by its name]")
@data_options
@click.option(
    "--device",
    type=click.Choice(("auto", "cpu", "cuda")),
    default="auto",
    show_default=True,
    help="Where to compute; auto: on a GPU if there is one.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, for machines.")
@click.pass_context
def evaluate(
    ctx: click.Context, /, run_or_bundle: Path, k: int, data: str | None, device: Any, as_json: bool, **options: Any
) -> None:
    """Measure RUN_OR_BUNDLE on the ratings that were held out of its training.

    RMSE and MAE are in ratings. The rest ranks every item that the user has not rated in training, and counts
    the held-out ones, whatever their rating. Beside the model stand what needs no model: the mean rating;
    damped biases of users and items; and the most rated items.

    A run holds its ratings. A bundle does not: the data set is read again by its name, or as --data and the
    options beside it say, checked against the bundle's checksum, and split by the bundle's recipe. A bundle is
    measured through onnxruntime alone, without torch.
    """
    if (run_or_bundle / "run.json").is_file():
        if given := list(_given(ctx)):
            raise click.UsageError(f"a run holds its own ratings: leave out {', '.join(given)}.")
        from recsys.training.checkpoint import load_run
        from recsys.training.evaluate_run import evaluate_run

        result = evaluate_run(load_run(run_or_bundle), k, device)
    else:
        from export.evaluate_bundle import evaluate_bundle
        from serve.recommender import Recommender

        recommender = Recommender.load(run_or_bundle, device)
        result = evaluate_bundle(recommender, _ratings(ctx, recommender, data, options), k)
    if as_json:
        click.echo(json.dumps(result, indent=2))
        return
    _print_table(run_or_bundle, result)
