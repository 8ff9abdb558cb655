"""--config and --preset of `recsys train`: settings in files, as click's default map."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from recsys.project_file import (
    META,
    check_tables,
    option_names,
    option_value,
    read_toml,
    say_used,
    unknown_key,
)
from recsys.training.config_file import PRESETS, ConfigFile, parse_part, read_config, read_preset


def config_options(command: Any) -> Any:
    """Add --config and --preset, whose values are a `ConfigFile` or None."""
    command = click.option(
        "--preset",
        type=click.Choice(PRESETS),
        is_eager=True,
        callback=_read_preset,
        help="Such a file inside the package: documented sets of parts and settings.",
    )(command)
    return click.option(
        "--config",
        type=click.Path(path_type=Path),
        is_eager=True,
        callback=_read_config,
        metavar="FILE",
        help="TOML file of settings by the names of these flags, and a [[part]] for each part "
        "(docs/training.md). Flags override it. [default: recsys.toml, if there]",
    )(command)


def is_found(ctx: click.Context) -> bool:
    """Whether the file is `recsys.toml` of the working directory, which nobody named."""
    return ctx.get_parameter_source("config") is ParameterSource.DEFAULT_MAP


def of_file(ctx: click.Context, name: str) -> bool:
    """Whether the value of a parameter is from a file."""
    return ctx.get_parameter_source(name) is ParameterSource.DEFAULT_MAP


def take_models(
    ctx: click.Context,
    config: ConfigFile | None,
    preset: ConfigFile | None,
    model: tuple[str, ...],
    *,
    starts: bool,
    options: dict[str, Any],
) -> tuple[str, ...] | ConfigFile:
    """The parts, with the settings that files bring for them, which are taken out of `options`.

    A flag that brings the parts (--model, --preset, or --init-from, where `starts`) replaces those of
    `recsys.toml`, and their rating weight.

    Raises:
        click.UsageError: a file that was named brings the parts, and a flag does, too.
    """
    named = [name for name, given in (("model", model), ("preset", preset)) if given]
    named += ["init_from"] if starts else []
    if is_found(ctx) and not all(of_file(ctx, name) for name in named):
        config = ConfigFile({}, [])
        model = () if of_file(ctx, "model") else model
        preset = None if of_file(ctx, "preset") else preset
        if of_file(ctx, "rating_weight") and not preset:
            options.pop("rating_weight")
            ctx.default_map = {n: v for n, v in (ctx.default_map or {}).items() if n != "rating_weight"}
    bring = [
        f"--{name.replace('_', '-')}"
        for name, given in (("model", model), ("init_from", starts), ("preset", preset))
        if given
    ]
    if config and config.parts and bring:
        raise click.UsageError(f"{bring[0]} and the file both bring the parts: leave one of them out.")
    if preset and len(bring) > 1:
        raise click.UsageError(f"{bring[0]} and --preset both bring the parts: leave one of them out.")
    if not config and not preset:
        return model
    settings = {name: options.pop(name) for name in list(options) if of_file(ctx, name)}
    if preset:
        return ConfigFile(settings, preset.parts, is_preset=True)
    assert config
    return ConfigFile(settings, config.parts or [parse_part(text) for text in model])


def say_found(ctx: click.Context, models: tuple[str, ...] | ConfigFile) -> None:
    """Say what `recsys.toml` sets, where it was found."""
    file = ctx.params["config"]
    values = (ctx.default_map or {}).items()
    used = {name: value for name, value in values if name in file.settings and of_file(ctx, name)}
    parts = ""
    if file.parts and isinstance(models, ConfigFile) and models.parts is file.parts:
        parts = f"parts {', '.join(part.kind.name for part in file.parts)}"
    say_used(ctx.meta[META], ctx.command, used, parts)


def _read_config(ctx: click.Context, param: click.Parameter, path: Path | None) -> ConfigFile | None:
    if path is None:
        return None
    _refuse_two(ctx, "preset")
    ctx.meta[META] = path
    root = ctx.find_root().command
    if isinstance(root, click.Group):
        check_tables(path, read_toml(path), root.list_commands(ctx))
    file = read_config(path)
    settings = _typed(ctx, str(path), file)
    if ctx.params.get("preset"):  # by a flag, which goes before recsys.toml
        of_preset = {name: value for name, value in (ctx.default_map or {}).items() if name != "config"}
        settings = {name: value for name, value in settings.items() if name != "rating_weight"} | of_preset
    ctx.default_map = settings
    return file


def _read_preset(ctx: click.Context, param: click.Parameter, name: str | None) -> ConfigFile | None:
    if name is None:
        return None
    named = not of_file(ctx, "preset")
    if named:
        _refuse_two(ctx, "config")
    file = read_preset(name)
    before = dict(ctx.default_map or {})
    settings = _typed(ctx, name, file)
    ctx.default_map = before | settings if named else settings | before
    return file


def _refuse_two(ctx: click.Context, other: str) -> None:
    if ctx.get_parameter_source(other) is ParameterSource.COMMANDLINE and not is_found(ctx):
        raise click.UsageError("--config and --preset both bring settings: use one of them.")


def _typed(ctx: click.Context, where: str, file: ConfigFile) -> dict[str, Any]:
    """A file's settings as click's default map. Raises ConfigError: a key that is no flag."""
    options = {option.name: option for option in ctx.command.params if isinstance(option, click.Option)}
    known = option_names(ctx.command)
    del known["config"]
    typed = {}
    for name, value in file.settings.items():
        option = options.get(name)
        if option is None or name == "config":
            raise unknown_key(where, name, known)
        typed[name] = option_value(f"{where} {option.opts[-1].lstrip('-')}", option, value)
    return typed
