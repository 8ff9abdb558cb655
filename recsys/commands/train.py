"""`recsys train`: ratings -> a run folder."""

from __future__ import annotations

import atexit
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import click
from click.core import ParameterSource

from recsys.commands.data_options import data_options, load_from_options
from recsys.data.splits import Kind as SplitKind
from recsys.data.splits import SplitRecipe
from recsys.errors import ConfigError, PeerError
from recsys.models import KINDS, DotConfig, Kind, MlpConfig
from recsys.training.config import Precision, TrainingConfig
from recsys.training.settings import DEFAULT_KIND, check_unchanged, new_settings, parse_part
from serve.terminal import printable, warn

if TYPE_CHECKING:
    from recsys.console import Console
    from recsys.training.checkpoint import Run
    from recsys.training.pretrained import Pretrained, WarmStart
    from recsys.training.run_info import MatchBy
    from recsys.training.session import Machine, Reporter

DEFAULT_DATA = "ml-latest-small"


def by_kind(value_of: Callable[[Kind], object]) -> str:
    """Values of the kinds trained by gradient, equal ones together: "dot 0.0, dot-bias and mlp 0.1"."""
    groups: dict[object, list[str]] = {}
    for kind in KINDS.values():
        if kind.fit is None:
            groups.setdefault(value_of(kind), []).append(kind.name)
    return ", ".join(f"{' and '.join(names)} {value}" for value, names in groups.items())


class PartType(click.ParamType[str]):
    """KIND or KIND:WEIGHT; a click type, so that a wrong one is a usage error."""

    name = "part"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Check the text; `new_settings` parses it."""
        try:
            parse_part(value)
        except ConfigError as error:
            self.fail(str(error), param, ctx)
        return str(value)


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
@click.option(
    "--model",
    type=PartType(),
    multiple=True,
    metavar="KIND[:WEIGHT]",
    help=f"Kind of model: {', '.join(KINDS)}. Repeat it for several parts, of which one may predict ratings; "
    f"WEIGHT is of a part that ranks. [default: {DEFAULT_KIND}]",
)
@click.option("--output", metavar="RUN", type=click.Path(path_type=Path), required=True, help="Run folder.")
@click.option(
    "--epochs", type=int, help=f"Passes over the training ratings. [default: {TrainingConfig.epochs}]"
)
@click.option("--batch-size", type=int, help=f"Ratings a step. [default: {TrainingConfig.batch_size}]")
@click.option(
    "--learning-rate",
    type=float,
    help=f"Peak of the one-cycle schedule. [default: {TrainingConfig.learning_rate}]",
)
@click.option(
    "--weight-decay",
    type=float,
    help=f"Decoupled. [default: {by_kind(lambda kind: kind.weight_decay)}]",
)
@click.option(
    "--factors",
    type=int,
    help=f"Columns of both tables. [default: {DotConfig.n_factors}; mlp by the tables' sizes]",
)
@click.option(
    "--y-range",
    type=(float, float),
    metavar="LOW HIGH",
    help="Range of the scores. [default: dot none; others the ratings' own, wider by 1/8 at both ends]",
)
@click.option(
    "--hidden-layers",
    type=Widths(),
    metavar="N,N,…",
    help=f"mlp: their widths, or none. [default: {','.join(map(str, MlpConfig.hidden_layers))}]",
)
@click.option(
    "--batch-norm/--no-batch-norm", default=None, help="mlp: after each hidden layer. [default: no]"
)
@click.option(
    "--dropout",
    type=float,
    help=f"mlp: share of hidden outputs that a step drops. [default: {MlpConfig.dropout}]",
)
@click.option(
    "--split",
    "kind",
    type=click.Choice(get_args(SplitKind)),
    help=f"What is held out. [default: {SplitRecipe.kind}]",
)
@click.option(
    "--valid-fraction", type=float, help=f"Share that is held out. [default: {SplitRecipe.valid_fraction}]"
)
@click.option("--fold", type=int, help="One of MovieLens 100K's canonical folds, 1 to 5.")
@click.option(
    "--seed",
    type=int,
    help=f"Of the split, new weights, the order and dropout. [default: {SplitRecipe.seed}]",
)
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
    "--precision",
    type=click.Choice(get_args(Precision)),
    help=f"Of a network's layers. [default: {TrainingConfig.precision}]",
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

    RUN is whole after every epoch. An interrupted training continues with --resume, and on the CPU it ends
    with the same weights as an uninterrupted one.

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
    """Run `recsys train` with its options; `pretrained` is the model that it starts from."""
    from recsys.console import Console
    from recsys.training.distributed import leads
    from recsys.training.progress import show_training
    from recsys.training.run_info import is_run
    from recsys.training.session import Machine

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
        # Gloo's threads, interrupted in a collective, can abort the process while Python finalises.
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
    from recsys.training.train import train

    check_free(output, overwrite)  # before the data is read, which may take a while
    models, data, asked = _sort(options)
    if pretrained:
        models, asked = pretrained.settings(models, asked)
    settings = new_settings(models, asked)
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
        with suppress(OSError):  # the reader may be gone
            stream.flush()
    os._exit(exit_code)


def _described(start: WarmStart) -> str:
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
    from recsys.training.train import resume

    info = read_info(output)
    models, data, asked = _sort(options)
    check_unchanged(models, asked, info)
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


def _sort(options: dict[str, Any]) -> tuple[Sequence[str] | str, dict[str, Any], dict[str, Any]]:
    """Sort options into the models, those on reading the data, and settings."""
    columns = ("user_column", "item_column", "rating_column", "timestamp_column")
    reading = ("data", "from_file", *columns, "item_key", "duplicates")
    data = {name: options[name] for name in reading}
    asked = {name: value for name, value in options.items() if name not in (*reading, "model")}
    return options["model"], data, asked


def _given(names: Iterable[str]) -> list[str]:
    """Those of the options that are on the command line, without defaults."""
    ctx = click.get_current_context()
    given = (name for name in names if ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE)
    return [f"--{name.replace('_', '-')}" for name in given]


def _interrupted(output: Path) -> str:
    from recsys.training.run_info import is_run, read_info

    if not is_run(output):
        return "Interrupted before the first epoch was whole: nothing was written."
    info = read_info(output)
    done = [part for part in info.parts if part.history]
    last = done[-1]
    state = f"part {len(done)} of {len(info.parts)}"
    if last.training:
        state = f"epoch {last.iterations_done} of {last.training.epochs}"
    return f"Interrupted. {output} holds {state}; continue with:\n  recsys train --output {output} --resume"
