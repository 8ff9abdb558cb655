"""`recsys train` with `--init-from`. It is here because it reads bundles, which `recsys` must not import."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from recsys.commands import train as plain

OPTIONS = [
    click.Option(
        ["--init-from"],
        type=click.Path(path_type=Path),
        metavar="RUN_OR_BUNDLE",
        help="Start from a model trained elsewhere: items that both have take over their rows.",
    ),
    click.Option(
        ["--match-items"],
        type=click.Choice(("id", "title")),
        default="id",
        show_default=True,
        help="With --init-from: match items by id or by title.",
    ),
]


@click.command(params=[*plain.train.params, *OPTIONS], help=plain.train.help)
@click.pass_context
def train(ctx: click.Context, /, init_from: Path | None, match_items: Any, **options: Any) -> None:
    """Add the options of `--init-from` to the command of `recsys`."""
    own = {name: options.pop(name) for name in ("output", "device", "compile", "resume", "overwrite")}
    pretrained = None
    if init_from is None and ctx.get_parameter_source("match_items") is ParameterSource.COMMANDLINE:
        raise click.UsageError("--match-items says how to start --init-from a model: name one.")
    if init_from is not None:
        from export.model.pretrained import read_pretrained

        pretrained = read_pretrained(init_from)
    plain.run_training(ctx, **own, options=options, pretrained=pretrained, match_items=match_items)
