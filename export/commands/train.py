"""`recsys train` with `--init-from`, which reads bundles: `recsys` imports nothing that does."""

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
        help="Start from a pretrained model: items of both data sets take over their rows.",
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
    """Run the command of `recsys` with the options of `--init-from`."""
    own = {name: options.pop(name) for name in ("output", "device", "compile", "resume", "overwrite")}
    if init_from is None and ctx.get_parameter_source("match_items") is ParameterSource.COMMANDLINE:
        raise click.UsageError("--match-items goes with --init-from: name a model.")
    from export.model.pretrained import read_pretrained

    pretrained = read_pretrained(init_from) if init_from else None
    plain.run_training(ctx, **own, options=options, pretrained=pretrained, match_items=match_items)
