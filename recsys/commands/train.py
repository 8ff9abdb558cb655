"""`recsys train`: ratings -> a run folder."""

from __future__ import annotations

import atexit
import os
import sys
from contextlib import suppress
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import click

from recsys.commands.config_options import config_options, is_found, of_file, say_found, take_models
from recsys.commands.data_options import (
    TRAINING_DATA_OPTIONS,
    flags_given,
    load_from_options,
    load_valid_data,
    training_data_options,
)
from recsys.commands.next_steps import export_words
from recsys.data.splits import Kind as SplitKind
from recsys.data.splits import SplitRecipe
from recsys.errors import ConfigError, PeerError
from recsys.models import KINDS, BayesConfig, DotConfig, MlpConfig, Objective
from recsys.models.ials import IalsConfig
from recsys.training.config_file import ConfigFile, parse_part
from recsys.training.run_info import Precision, SparseUpdates, TrainingConfig, is_run, read_info
from recsys.training.settings import DEFAULT_PRESET, check_unchanged, new_settings
from serve.reading.cells import parse_integer
from serve.reading.options import Integer, Number
from serve.terminal import next_step, warn

if TYPE_CHECKING:
    from recsys.data.interactions import Interactions

DEFAULT_DATA = "ml-latest-small"
DECAYS = ", ".join(f"{kind.name} {kind.weight_decay}" for kind in KINDS.values() if kind.fit is None)


def _check_parts(ctx: click.Context, param: click.Parameter, texts: tuple[str, ...]) -> tuple[str, ...]:
    try:
        for text in texts:
            parse_part(text)
    except ConfigError as error:
        raise click.BadParameter(str(error), ctx, param) from None
    return texts


def _widths(ctx: click.Context, param: click.Parameter, text: str | None) -> list[int] | None:
    """Turn "100,50" into [100, 50], and "none" into []."""
    if text is None or text == "none":
        return None if text is None else []
    widths = [parse_integer(width.strip()) for width in text.split(",")]
    if None in widths:
        raise click.BadParameter(f"{text!r}: give numbers separated by commas, as 100,50", ctx, param)
    return [width for width in widths if width is not None]


@click.command()
@click.option("--data", metavar="NAME_OR_PATH", help=f"The ratings. [default: {DEFAULT_DATA}, packaged]")
@training_data_options
@click.option(
    "--model",
    callback=_check_parts,
    multiple=True,
    metavar="KIND[:WEIGHT]",
    help=f"Kind of model: {', '.join(KINDS)}. Repeat it for several parts, at most one of which predicts "
    f"ratings; WEIGHT is of a part that ranks. [default: the preset '{DEFAULT_PRESET}']",
)
@config_options
@click.option(
    "--rating-weight",
    type=Number(),
    metavar="W",
    help="Weight of the predicted ratings in the lists, beside parts that rank. [default: 0, or "
    "the preset's]",
)
@click.option(
    "--objective",
    type=click.Choice(get_args(Objective)),
    help="What dot, dot-bias and mlp are trained for: to predict ratings, or to rank. [default: ratings]",
)
@click.option("--output", metavar="RUN", type=click.Path(path_type=Path), required=True, help="Run folder.")
@click.option(
    "--epochs", type=Integer(), help=f"Passes over the training ratings. [default: {TrainingConfig.epochs}]"
)
@click.option(
    "--iterations",
    type=Integer(),
    help=f"bayes: draws of the sampler; ials: solves of either side. [default: {BayesConfig.iterations}; "
    f"{IalsConfig.iterations}]",
)
@click.option(
    "--batch-size", type=Integer(), help=f"Ratings per step. [default: {TrainingConfig.batch_size}]"
)
@click.option(
    "--learning-rate",
    type=Number(),
    help=f"Peak of the one-cycle schedule. [default: {TrainingConfig.learning_rate}]",
)
@click.option(
    "--weight-decay",
    type=Number(),
    help=f"Decoupled. [default: {DECAYS}]",
)
@click.option(
    "--factors",
    type=Integer(),
    help=f"Columns of both tables. [default: {DotConfig.n_factors}; mlp by the tables' sizes]",
)
@click.option(
    "--y-range",
    type=(Number(), Number()),
    metavar="LOW HIGH",
    help="Range of the scores. [default: dot none; others the ratings' own, extended by 1/8 at both ends]",
)
@click.option(
    "--hidden-layers",
    callback=_widths,
    metavar="N,N,…",
    help=f"mlp: widths of hidden layers, or none. [default: {','.join(map(str, MlpConfig.hidden_layers))}]",
)
@click.option(
    "--batch-norm/--no-batch-norm", default=None, help="mlp: after each hidden layer. [default: no]"
)
@click.option(
    "--dropout",
    type=Number(),
    help=f"mlp: fraction of hidden outputs that a step drops. [default: {MlpConfig.dropout}]",
)
@click.option(
    "--split",
    "kind",
    type=click.Choice(get_args(SplitKind)),
    help=f"What is held out. [default: {SplitRecipe.kind}]",
)
@click.option(
    "--valid-fraction",
    type=Number(),
    help=f"Fraction that is held out; 0: nothing. [default: {SplitRecipe.valid_fraction}]",
)
@click.option(
    "--valid-data",
    metavar="PATH",
    help="Hold out the ratings of a file of their own, read as --data is; they are not trained on.",
)
@click.option("--fold", type=Integer(), help="One of MovieLens 100K's canonical folds, 1 to 5.")
@click.option(
    "--seed",
    type=Integer(),
    help=f"Seed of the split, new weights, order and dropout. [default: {SplitRecipe.seed}]",
)
@click.option(
    "--device",
    type=click.Choice(("auto", "cpu", "cuda")),
    default="auto",
    show_default=True,
    help="Device to train on; auto: a GPU if torch can use one.",
)
@click.option(
    "--compile",
    type=click.Choice(("auto", "on", "off")),
    default="auto",
    show_default=True,
    help="Use torch.compile; auto: on a GPU.",
)
@click.option(
    "--precision",
    type=click.Choice(get_args(Precision)),
    help="Precision of matrix products: tf32 of all, on a GPU; bf16 of a network's layers. "
    f"[default: {TrainingConfig.precision}]",
)
@click.option(
    "--sparse-updates",
    type=click.Choice(get_args(SparseUpdates)),
    help="dot, dot-bias, mlp: change only the rows that a step uses; auto: where tables are large beside a "
    f"step, and not for mlp. [default: {TrainingConfig.sparse_updates}]",
)
@click.option(
    "--shard-tables",
    is_flag=True,
    help="dot, dot-bias, by several processes (torchrun): each holds a share of the tables and ratings.",
)
@click.option("--resume", is_flag=True, help="Continue RUN after its last whole epoch, with its settings.")
@click.option("--overwrite", is_flag=True, help="Replace RUN when the new one has its first whole epoch.")
@click.option(
    "--init-from",
    type=click.Path(path_type=Path),
    metavar="RUN_OR_BUNDLE",
    help="Start from a pretrained model: items of both data sets take over their rows.",
)
@click.option(
    "--match-items",
    type=click.Choice(("id", "title")),
    default="id",
    show_default=True,
    help="With --init-from: match items by id or by title.",
)
@click.pass_context
def train(
    ctx: click.Context,
    /,
    data: str | None,
    model: tuple[str, ...],
    config: ConfigFile | None,
    preset: ConfigFile | None,
    valid_data: str | None,
    output: Path,
    device: Any,
    compile: Any,
    shard_tables: bool,
    resume: bool,
    overwrite: bool,
    init_from: Path | None,
    match_items: Any,
    **options: Any,
) -> None:
    """Train a model, or several as the parts of one recommender, on ratings or on likes.

    RUN is complete after every epoch. An interrupted training continues with --resume; on the CPU it ends
    with the same weights as an uninterrupted one.

    \b
    Examples:
      recsys train --output runs/mine
      recsys train --data orders.csv --implicit --model ease --model ials:0.5 --output runs/orders
      recsys train --data ml-100k --fold 1 --model mlp --hidden-layers 100,50 --output runs/u1
      recsys train --data ratings.csv --item-column film --output runs/films
      torchrun --nproc-per-node 2 -m recsys train --output runs/two
    """
    if of_file(ctx, "overwrite") and flags_given(ctx, ["resume"]):
        overwrite = False
    if of_file(ctx, "resume") and flags_given(ctx, ["overwrite"]):
        resume = False
    if resume and overwrite:
        raise click.UsageError("--resume continues a run, and --overwrite replaces it: use one of them.")
    if not init_from and flags_given(ctx, ["match_items"]):
        raise click.UsageError("--match-items goes with --init-from: name a model.")
    continues = resume and is_run(output)
    if continues and of_file(ctx, "init_from"):  # the run has started from it
        init_from = None
    if continues and init_from:
        raise click.UsageError("--resume continues from the run's weights: leave out --init-from.")
    reading = {name: options.pop(name) for name in TRAINING_DATA_OPTIONS}  # the rest are settings
    found = is_found(ctx)
    models = take_models(ctx, config, preset, model, starts=bool(init_from), options=options)
    if continues and found:  # a run keeps its settings, whatever the file says by now
        models = ()
        data = None if of_file(ctx, "data") else data
        valid_data = None if of_file(ctx, "valid_data") else valid_data

    from recsys.console import Console
    from recsys.training import pretrained
    from recsys.training import train as training
    from recsys.training.distributed import leads
    from recsys.training.progress import show_training
    from recsys.training.run_folder import check_free
    from recsys.training.sharded_tables import check_shardable

    if found and leads() and not continues:
        say_found(ctx, models)
    source = start = None
    if init_from:  # by the module's path, because `recsys` imports nothing that reads bundles
        source = import_module("export.model.pretrained").read_pretrained(init_from)
    console = Console(soft_wrap=True, quiet=not leads())
    machine = training.Machine(device, compile, shard_tables)
    reads = leads() or not shard_tables  # the ratings
    try:
        with show_training(console, shards=shard_tables) as reporter:
            valid = load_valid_data(valid_data, reading) if reads else None
            options["valid_data"] = valid and valid.sha256
            if continues:
                if reads:
                    _check_resumed(ctx, output, data, valid, reading, models, options)
                run = training.resume(output, machine=machine, reporter=reporter)
            else:
                check_free(output, overwrite)  # before reading the data, which takes time
                named = models, options
                if source:
                    of_files = models.settings if isinstance(models, ConfigFile) else {}
                    named = source.settings(model, {**of_files, **options})
                settings = new_settings(*named)
                if shard_tables:
                    check_shardable(settings.parts, warm=source is not None)
                load = partial(load_from_options, data or DEFAULT_DATA, **reading)
                ratings: Any = load if shard_tables else load()
                if source:
                    start = pretrained.match_items(source, ratings, match_items)
                    console.print(start.description, markup=False, highlight=False)
                run = training.train(
                    ratings,
                    settings,
                    output,
                    valid=valid,
                    start=start,
                    overwrite=overwrite,
                    machine=machine,
                    reporter=reporter,
                )
    except KeyboardInterrupt:
        _say_interrupted(output)
        ctx.exit(130)
    except PeerError:
        # Gloo's threads, interrupted in a collective, can abort the process while Python exits.
        atexit.register(_leave, 1)
        raise
    metrics = ", ".join(
        f"{name.upper().replace('NDCG_AT_', 'nDCG@')} {value:.4f}" for name, value in run.info.metrics.items()
    )
    result = f"{metrics} on the held-out ratings"
    if not run.info.data.n_held_out:
        result = "none held out"
    elif not metrics:
        result = f"`recsys evaluate {output}` measures its lists"
    console.print(f"{output}: {result}", markup=False, highlight=False)
    if leads():
        next_step(export_words(output, overwrite=overwrite))


def _check_resumed(
    ctx: click.Context,
    output: Path,
    data: str | None,
    valid: Interactions | None,
    reading: dict[str, Any],
    models: ConfigFile | tuple[str, ...],
    settings: dict[str, Any],
) -> None:
    """Check that the data and settings given for a run to be resumed are the run's own."""
    from recsys.data.features import feature_names
    from recsys.data.valid_data import with_valid_data

    info = read_info(output)
    check_unchanged(models, settings, info)
    if data is None:
        if given := flags_given(ctx, TRAINING_DATA_OPTIONS):
            raise click.UsageError(f"--resume reads the ratings from RUN: leave out {', '.join(given)}.")
        return
    found = load_from_options(data, **reading)
    if valid:
        found, _ = with_valid_data(found, valid)
    known = [feature_names(found.users), feature_names(found.items)]
    now = (found.sha256, found.item_key, len(found), *known)
    of_run = info.data
    stored = (
        of_run.sha256,
        of_run.item_key,
        of_run.n_ratings,
        of_run.user_features,
        of_run.item_features,
    )
    if now != stored:
        raise ConfigError(
            f"{output} was trained on other data than {data}: its SHA-256, item key, number of ratings and "
            f"features are {stored}, not {now}. Leave out --data: a run holds its ratings."
        )


def _leave(exit_code: int) -> None:
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):  # the reader may be gone
            stream.flush()
    os._exit(exit_code)


def _say_interrupted(output: Path) -> None:
    if not is_run(output):
        warn("Interrupted before an epoch or a fit was done: nothing was written.")
        return
    info = read_info(output)
    done = [part for part in info.parts if part.history]
    last = done[-1]
    state = f"part {len(done)} of {len(info.parts)}"
    if last.training:
        state = f"epoch {last.iterations_done} of {last.training.epochs}"
    warn(f"Interrupted. {output} holds {state}.")
    next_step(["recsys", "train", "--output", output, "--resume"])
