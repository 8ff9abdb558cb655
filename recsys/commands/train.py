"""`recsys train`: ratings -> a run folder."""

from __future__ import annotations

import atexit
import os
import sys
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from recsys.commands.data_options import data_options, load_from_options
from recsys.errors import ConfigError, PeerError
from serve.terminal import printable, warn

if TYPE_CHECKING:
    from recsys.console import Console
    from recsys.training.checkpoint import Run
    from recsys.training.pretrained import Pretrained, Start
    from recsys.training.run_info import MatchBy
    from recsys.training.train import Machine, Reporter

# Names and defaults are written out here, not imported: torch would come with them before `--help` is
# printed. A test holds them equal to those of recsys.models, recsys.data and recsys.training.
KINDS = ("dot", "dot-bias", "mlp")
SPLITS = ("random", "fold", "leave-last-out", "by-user")
DEFAULT_DATA = "ml-latest-small"


class Widths(click.ParamType[list[int]]):
    """Widths of layers: "100,50"; "none" for no layer."""

    name = "widths"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> list[int]:
        """Turn "100,50" into [100, 50]."""
        if isinstance(value, list):
            return value
        try:
            return [] if value == "none" else [int(width) for width in value.split(",")]
        except ValueError:
            self.fail(f"{value!r}: give whole numbers with commas between them, like 100,50", param, ctx)


@click.command()
@click.option("--data", metavar="NAME_OR_PATH", help=f"The ratings. [default: {DEFAULT_DATA}, packaged]")
@data_options
@click.option("--model", type=click.Choice(KINDS), help="Kind of model. [default: dot-bias]")
@click.option("--output", metavar="RUN", type=click.Path(path_type=Path), required=True, help="Run folder.")
@click.option("--epochs", type=int, help="Passes over the training ratings. [default: 5]")
@click.option("--batch-size", type=int, help="Ratings a step. [default: 256]")
@click.option("--learning-rate", type=float, help="Peak of the one-cycle schedule. [default: 0.005]")
@click.option("--weight-decay", type=float, help="Decoupled. [default: dot 0.0, dot-bias and mlp 0.1]")
@click.option("--factors", type=int, help="Columns of both tables. [default: 50; mlp by the tables' sizes]")
@click.option(
    "--y-range",
    type=(float, float),
    metavar="LOW HIGH",
    help="Range of the scores. [default: dot none; others the ratings' own, wider by 1/8 at both ends]",
)
@click.option(
    "--hidden-layers", type=Widths(), metavar="N,N,…", help="mlp: their widths, or none. [default: 100]"
)
@click.option(
    "--batch-norm/--no-batch-norm", default=None, help="mlp: after each hidden layer. [default: no]"
)
@click.option("--dropout", type=float, help="mlp: share of hidden outputs that a step drops. [default: 0.0]")
@click.option("--split", "kind", type=click.Choice(SPLITS), help="What is held out. [default: random]")
@click.option("--valid-fraction", type=float, help="Share that is held out. [default: 0.2]")
@click.option("--fold", type=int, help="One of MovieLens 100K's canonical folds, 1 to 5.")
@click.option("--seed", type=int, help="Of the split, new weights, the order and dropout. [default: 42]")
@click.option(
    "--device",
    type=click.Choice(("auto", "cpu", "cuda")),
    default="auto",
    show_default=True,
    help="Where to train; auto: on a GPU if torch can use one.",
)
@click.option(
    "--compile",
    type=click.Choice(("auto", "on", "off")),
    default="auto",
    show_default=True,
    help="torch.compile; auto: on a GPU.",
)
@click.option(
    "--precision", type=click.Choice(("float32", "bf16")), help="Of a network's layers. [default: float32]"
)
@click.option("--resume", is_flag=True, help="Continue RUN after its last whole epoch, as it was started.")
@click.option("--overwrite", is_flag=True, help="Replace RUN, once the new one has its first whole epoch.")
@click.pass_context
def train(
    ctx: click.Context,
    /,
    output: Path,
    device: Any,
    compile: Any,
    resume: bool,
    overwrite: bool,
    **options: Any,
) -> None:
    """Train a model on ratings.

    RUN is whole after every epoch: an interrupted training goes on with --resume, and on the CPU it ends with
    the very weights that it would have had.

    \b
    Examples:
      recsys train --output runs/mine
      recsys train --data ml-100k --fold 1 --model mlp --hidden-layers 100,50 --output runs/u1
      recsys train --data ratings.csv --item-column film --output runs/films
      torchrun --nproc-per-node 2 -m recsys train --output runs/two
    """
    run_training(ctx, output, device, compile, resume, overwrite, options)


def run_training(
    ctx: click.Context,
    output: Path,
    device: Any,
    compile: Any,
    resume: bool,
    overwrite: bool,
    options: dict[str, Any],
    pretrained: Pretrained | None = None,
    match_items: MatchBy = "id",
) -> None:
    """Do what `recsys train` does, from its options; `pretrained` is where to start."""
    from recsys.console import Console
    from recsys.training.distributed import leads
    from recsys.training.progress import show_training
    from recsys.training.run_info import is_run
    from recsys.training.train import Machine

    if resume and overwrite:
        raise click.UsageError("--resume continues a run, --overwrite replaces it: take one of them.")
    if resume and pretrained and is_run(output):
        raise click.UsageError("--resume goes on from the run's own weights: leave out --init-from.")
    console = Console(soft_wrap=True, quiet=not leads())
    machine = Machine(device, compile)
    try:
        with show_training(console) as reporter:
            if resume and is_run(output):
                run = _resume(output, options, machine, reporter)
            else:
                run = _train(output, overwrite, options, machine, reporter, console, pretrained, match_items)
    except KeyboardInterrupt:
        warn(_interrupted(output))
        ctx.exit(130)
    except PeerError:
        # Gloo's threads, cut off in the middle, can abort the process while Python takes itself apart.
        atexit.register(_leave, 1)
        raise
    metrics = ", ".join(f"{name.upper()} {value:.4f}" for name, value in run.info.metrics.items())
    console.print(f"{output}: {metrics} on the held-out ratings", markup=False, highlight=False)


def _train(
    output: Path,
    overwrite: bool,
    options: dict[str, Any],
    machine: Machine,
    reporter: Reporter,
    console: Console,
    pretrained: Pretrained | None,
    match_by: MatchBy,
) -> Run:
    from recsys.training.pretrained import match_items
    from recsys.training.run_folder import check_free
    from recsys.training.settings import new_settings
    from recsys.training.train import train

    check_free(output, overwrite)  # before the data is read, which may take a while
    kind, data, asked = _sort(options)
    if pretrained:
        kind, asked = pretrained.settings(kind, asked)
    settings = new_settings(kind, asked)
    source = data.pop("data") or DEFAULT_DATA
    interactions = load_from_options(source, **data)
    start = None
    if pretrained:
        start = match_items(pretrained, interactions, match_by)
        console.print(_described(start), markup=False, highlight=False)
    return train(
        interactions, settings, output, start=start, overwrite=overwrite, machine=machine, reporter=reporter
    )


def _leave(exit_code: int) -> None:
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):  # nobody may be left who reads it
            stream.flush()
    os._exit(exit_code)


def _described(start: Start) -> str:
    summary = start.summary
    n_items = summary.n_matched + summary.n_new
    lines = [f"start: {summary.n_matched:,} of {n_items:,} items have rows in {summary.source}"]
    lines[0] += f", by {summary.match_by}; every user starts as its average user"
    for n, names, what in (
        (summary.n_matched, start.matched, "found there"),
        (summary.n_new, start.new, "not there, start as its average item"),
        (summary.n_left, start.left, "there and not here, left out"),
    ):
        if n:
            lines.append(f"  {n:,} {what}: {', '.join(names)}{', …' if n > len(names) else ''}")
    return printable("\n".join(lines))


def _resume(output: Path, options: dict[str, Any], machine: Machine, reporter: Reporter) -> Run:
    from recsys.training.run_info import read_info
    from recsys.training.settings import check_unchanged
    from recsys.training.train import resume

    info = read_info(output)
    kind, data, asked = _sort(options)
    check_unchanged(kind, asked, info)
    source = data.pop("data")
    if source is None and (given := _given(data)):
        raise click.UsageError(f"--resume reads the ratings from RUN: leave out {', '.join(given)}.")
    if source is not None:
        found = load_from_options(source, **data)
        wanted = (info.data.sha256, info.data.item_key, info.data.n_ratings)
        if (found.sha256, found.item_key, len(found)) != wanted:
            raise ConfigError(
                f"{output} was trained on {info.data.name}, and {source} as it is read now is not the same: "
                f"(SHA-256, item key, ratings) {wanted} there, {(found.sha256, found.item_key, len(found))} "
                f"here. Leave out --data: a run holds its own ratings."
            )
    return resume(output, machine=machine, reporter=reporter)


def _sort(options: dict[str, Any]) -> tuple[str | None, dict[str, Any], dict[str, Any]]:
    """The kind of model, what says how to read the data, and what else was asked for."""
    columns = ("user_column", "item_column", "rating_column", "timestamp_column")
    reading = ("data", "from_file", *columns, "item_key", "duplicates")
    data = {name: options[name] for name in reading}
    asked = {name: value for name, value in options.items() if name not in (*reading, "model")}
    return options["model"], data, asked


def _given(names: Iterable[str]) -> list[str]:
    """The options that are on the command line, defaults left out."""
    ctx = click.get_current_context()
    given = (name for name in names if ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE)
    return [f"--{name.replace('_', '-')}" for name in given]


def _interrupted(output: Path) -> str:
    from recsys.training.run_info import is_run, read_info

    if not is_run(output):
        return "Interrupted before the first epoch was whole: nothing was written."
    info = read_info(output)
    return (
        f"Interrupted. {output} holds epoch {info.epochs_done} of {info.training.epochs}; continue with:\n"
        f"  recsys train --output {output} --resume"
    )
