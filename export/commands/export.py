"""`recsys export`: turn a run into a verified bundle."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from serve.bundle.shards import MAX_SHARDS
from serve.commands.options import bundle_output_option, json_option, overwrite_option
from serve.reading.options import IntegerRange, Number
from serve.terminal import next_step


@click.command()
@click.argument("run", type=click.Path(exists=True, path_type=Path))
@bundle_output_option
@click.option(
    "--top-k",
    type=IntegerRange(1),
    default=100,
    show_default=True,
    help="Longest list that the graphs can give.",
)
@click.option(
    "--tables",
    "tables_file",
    type=click.Choice(["auto", "always", "never"]),
    default="auto",
    show_default=True,
    help="Put the tables into one file that all graphs share; auto: when they pass 1 GiB.",
)
@click.option(
    "--raw-ids",
    is_flag=True,
    help="Add recommend_by_id.onnx: user ids in, item ids and titles out. ONNX Runtime only.",
)
@click.option(
    "--fast",
    is_flag=True,
    help="Add recommend_fast.onnx: one user's list over a large catalogue by tables of 8 or 4 bits, ranked "
    "again by the exact ones. ONNX Runtime only.",
)
@click.option(
    "--shards",
    type=IntegerRange(2, MAX_SHARDS),
    metavar="S",
    help="Cut the items into S ranges with a graph each, and merge.onnx for their lists, in place of "
    "recommend.onnx.",
)
@click.option(
    "--filtered",
    is_flag=True,
    help="Add recommend_filtered.onnx and fold_in_filtered.onnx: lists by rules (genres, years, prices, …).",
)
@click.option(
    "--precision",
    type=click.Choice(["fp32", "fp16", "int8", "int4"]),
    default="fp32",
    show_default=True,
    help="Bits of the tables: half, a quarter or an eighth of the bytes, with row-wise scales.",
)
@click.option(
    "--explain",
    is_flag=True,
    help="Add explain.onnx: what each of a user's ratings adds to the score of an item.",
)
@click.option(
    "--variety",
    is_flag=True,
    help="Add variety.onnx: a list in another order (less alike, less obvious, of more categories), for Node "
    "and browsers.",
)
@click.option(
    "--without-seen",
    is_flag=True,
    help="Leave out what users have rated: lists can't leave that out by themselves then.",
)
@click.option(
    "--rating-weight",
    type=Number(),
    metavar="W",
    help="Weight of the predicted ratings in the lists, beside parts that rank. [default: the run's]",
)
@click.option(
    "--triton",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Write a model repository for Triton Inference Server, too: a new folder.",
)
@overwrite_option
@json_option
def export(
    run: Path,
    output: Path,
    top_k: int,
    tables_file: Any,
    raw_ids: bool,
    fast: bool,
    shards: int | None,
    filtered: bool,
    precision: str,
    explain: bool,
    variety: bool,
    without_seen: bool,
    rating_weight: float | None,
    triton: Path | None,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Turn RUN (a folder that `recsys train` made) into an ONNX bundle.

    Every graph is compared with torch before the bundle gets its name; beyond the tolerance there is no
    bundle, and the exit code is 1.

    \b
      recsys export runs/mine --output artifacts/mine
    """
    from export.write.bundle import export_run
    from export.write.triton import MARKER, write_repository
    from recsys.console import Console
    from serve.bundle.bundle import open_bundle
    from serve.bundle.ids import IdIndex
    from serve.bundle.manifest import encode_manifest
    from serve.commands.inspect import format_files, format_parity
    from serve.files.atomic import check_target

    console = Console(stderr=as_json)
    if triton is not None:
        here, there = output.absolute(), triton.absolute()
        if here == there or here in there.parents or there in here.parents:
            raise click.UsageError("--triton and --output must be two folders, neither inside the other.")
        check_target(triton.absolute(), overwrite, MARKER)
    with console.status("") as status:
        manifest = export_run(
            run,
            output,
            top_k=top_k,
            tables_file=tables_file,
            raw_ids=raw_ids,
            fast=fast,
            shards=shards or 0,
            filtered=filtered,
            precision=precision,
            explain=explain,
            variety=variety,
            without_seen=without_seen,
            rating_weight=rating_weight,
            overwrite=overwrite,
            progress=lambda step: status.update(f"{step}…"),
        )
        if triton is not None:
            write_repository(open_bundle(output), triton, overwrite=overwrite)
    if as_json:
        click.echo(encode_manifest(manifest).decode(), nl=False)
        return
    click.echo(f"{format_files(manifest.files)}\n\n{format_parity(manifest.parity)}\n")
    if (rmse := manifest.metrics.get("rmse")) is not None:
        click.echo(f"RMSE on all {manifest.metrics['n_held_out']:,} held-out ratings: {rmse:.6g}\n")
    for graph, why in manifest.left_out.items():
        click.echo(f"Without {graph}.onnx: {why}")
    click.echo(f"Bundle: {output}")
    if triton is not None:
        click.echo(f"Triton model repository: {triton}")
    user_id = IdIndex.read(output / "users.parquet", "user_id", manifest.model.n_users).first_id
    next_step(["recsys", "recommend", output, "--user-id", user_id], ["recsys", "demo", output])
