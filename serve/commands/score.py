"""`recsys score`: files of pairs in, the same rows with scores out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from serve.commands.batch_options import batch_options, run_and_report
from serve.commands.options import bundle_argument


@click.command()
@bundle_argument
@click.option("--input", required=True, help="Parquet, CSV or TSV: a file, a folder, or a quoted glob.")
@click.option("--item-column", metavar="NAME", help="Column of item ids. [default: item_id, movieId, …]")
@batch_options(
    unknown="A pair with an id that is not in the bundle: the average's score, none, or it is a bad row."
)
def score(bundle: Path, input: str, unknown: Any, as_json: bool, **options: Any) -> None:
    """Score every pair of user id and item id in a file.

    The output has the same rows in order, with all their columns, and with "score" (the predicted rating;
    where BUNDLE predicts none, a number that orders items) and "known" (whether both ids are in BUNDLE).
    Memory does not grow with the input. OUTPUT appears when it is whole; a stopped job continues with
    --resume and ends with the same bytes.

    \b
    Examples:
      recsys score artifacts/default --input pairs.parquet --output scored
      recsys score artifacts/default --input 'pairs/*.csv' --output scored --on-bad-row quarantine
    """
    from serve.batch.score import Score

    run_and_report(Score(unknown=unknown), bundle, input, options, as_json)
