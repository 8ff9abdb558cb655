"""`recsys.toml` in the working directory: settings of every command, as click's default map.

A command's table (`[export]`, `[data.describe]`, …) has keys by the names of its flags, which override them.
Those of `recsys train`, which stand at the top, in `[train]` and in `[[part]]`, are read by its --config.
"""

from __future__ import annotations

import difflib
import os
import re
import shlex
import tomllib
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from recsys.errors import ConfigError
from serve.files.plain_file import read_plain
from serve.terminal import printable, warn

NAME = "recsys.toml"
VARIABLE = "RECSYS_CONFIG"
MAX_BYTES = 1 << 16
MAX_DOTS = 100
"""In the keys of a line: the time to read a dotted key grows with the square of its length."""
META = "recsys.project_file"
"""Key of the file's path in the `meta` of click's contexts."""
# Texts and comments of a TOML file. A text without an end is taken up to the end of the line or of the file.
_NO_KEYS = re.compile(
    r"""
    "{3} (?: \\. | [^\\] )*? (?: "{3} | \Z )
    | '{3} .*? (?: '{3} | \Z )
    | " (?: \\. | [^"\\\n] )* "?
    | ' [^'\n]* '?
    | \# [^\n]*
    """,
    re.DOTALL | re.VERBOSE,
)


def find_project_file() -> Path | None:
    """The file that RECSYS_CONFIG names, else `recsys.toml` if it is there; None if the variable is empty."""
    named = os.environ.get(VARIABLE)
    if named is not None:
        return Path(named) if named else None
    return Path(NAME) if os.path.lexists(NAME) else None


def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file of at most `MAX_BYTES`.

    Raises:
        ConfigError: it can't be read, is too large, nested too deeply or no TOML.
    """
    try:
        raw = read_plain(path, MAX_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"{path} can't be read: {error.strerror or error}") from None
    if len(raw) > MAX_BYTES:
        raise ConfigError(f"{path} has more than {MAX_BYTES:,} bytes: it is no file of settings")
    try:
        text = raw.decode("utf-8-sig")
        if any(line.count(".") > MAX_DOTS for line in _NO_KEYS.sub('""', text).splitlines()):
            raise RecursionError
        tables = tomllib.loads(text)
        repr(tables)  # an integer of thousands of digits that is not decimal can't be shown
        return tables
    except RecursionError:
        raise ConfigError(f"{path} is nested too deeply: settings are tables of plain values") from None
    except ValueError as error:  # not UTF-8, no TOML, or an integer of thousands of digits
        raise ConfigError(f"{path} is not TOML: {error}") from None


def default_map(
    name: str, command: click.Command, words: Sequence[str], commands: Collection[str]
) -> dict[str, Any]:
    """The default map for one of the `commands`, from the project file; empty where there is none.

    What it sets is said in a line on stderr, but for `train`, which says it itself. `words` are those after
    the command's name.

    Raises:
        ConfigError: the file can't be read, a table or a key has no command or flag of that name, or a value
            is of a type that no flag takes.
    """
    path = find_project_file()
    if path is None:
        return {}
    try:
        tables = read_toml(path)
        check_tables(path, tables, commands)
    except ConfigError as error:
        raise ConfigError(f"{VARIABLE}: {error}" if VARIABLE in os.environ else str(error)) from None
    click.get_current_context().meta[META] = path
    if name == "train":
        concerns = any(key == name or key not in commands for key in tables)
        return {name: {"config": str(path)}} if concerns else {}
    if name not in tables:
        return {}
    found = _defaults(path, name, tables[name], command)
    of_command = found
    if isinstance(command, click.Group):
        called = next((word for word in words if word in command.commands), "")
        command, of_command = command.commands.get(called, command), found.get(called, {})
    say_used(path, command, of_command)
    return {name: found}


def say_used(path: Path, command: click.Command, values: Mapping[str, Any], also: str = "") -> None:
    """Say on stderr what a file sets, as the words of the command line; `values` are by parameter."""
    words = [
        word
        for option in command.params
        if isinstance(option, click.Option) and option.name in values
        for word in option_words(option, values[option.name])
    ]
    if words or also:
        said = printable("; ".join(filter(None, [shlex.join(words), also])), keep="")
        warn(f"{path}: {said} (flags override it)")


def check_tables(path: Path, tables: Mapping[str, Any], commands: Collection[str]) -> None:
    """Raise ConfigError for a table of no command."""
    for name, table in tables.items():
        if isinstance(table, dict) and name not in commands and name != "part":
            raise ConfigError(f"{path}: no command is called {name!r}{_near(name, commands)}")


def option_value(where: str, option: click.Option, value: Any) -> Any:
    """A value as the command line would give it: text, a list of texts, or a bool for a flag.

    So the types of options check it, with the errors that they have for the command line.

    Raises:
        ConfigError: a value that can't stand on a command line.
    """
    if option.is_flag:
        if not isinstance(value, bool):
            raise ConfigError(f"{where} = {value!r}: write true or false")
        return value
    if option.multiple or option.nargs != 1:
        return [_text(where, one) for one in (value if isinstance(value, list) else [value])]
    return _text(where, value)


def unknown_key(where: str, key: str, options: Collection[str]) -> ConfigError:
    """The error for a key that is no flag; `options` are the names that there are."""
    name = key.replace("_", "-")
    return ConfigError(f"{where}: no flag is called {name!r}{_near(name, options)}")


def option_names(command: click.Command) -> dict[str, click.Option]:
    """Options of a command by their names in a file, such as "top-k" and "k"."""
    options = [parameter for parameter in command.params if isinstance(parameter, click.Option)]
    return {name.lstrip("-"): option for option in options for name in option.opts}


def naming_the_file(error: click.BadParameter) -> click.BadParameter:
    """The error with file and key, if the value came from a file."""
    context, parameter = error.ctx, error.param
    if context is None or parameter is None or META not in context.meta:
        return error
    if context.get_parameter_source(parameter.name or "") is not ParameterSource.DEFAULT_MAP:
        return error
    key = parameter.opts[-1].lstrip("-")
    message = f"{error.message.rstrip('.')} ({context.meta[META]}: {key})."
    return click.BadParameter(message, context, parameter, error.param_hint)


def _defaults(path: Path, name: str, table: Any, command: click.Command) -> dict[str, Any]:
    """The default map of a command or, by their names, of the commands in a group."""
    where = f"{path}, [{name}]"
    if not isinstance(table, dict):
        raise ConfigError(f"{path}: {name} is a command, so its settings are a table: [{name}]")
    if isinstance(command, click.Group):
        for key in table:
            if key not in command.commands:
                raise ConfigError(f"{where}: no command is called {key!r}{_near(key, command.commands)}")
        return {
            key: _defaults(path, f"{name}.{key}", inner, command.commands[key])
            for key, inner in table.items()
        }
    options = option_names(command)
    found: dict[str, Any] = {}
    for key, value in table.items():
        option = options.get(key.replace("_", "-"))
        if option is None or option.name is None:
            raise unknown_key(where, key, options)
        if option.name in found:
            raise ConfigError(f"{where}: {option.opts[-1]} is set twice, here as {key}: keep one of them")
        found[option.name] = option_value(f"{where} {key}", option, value)
    return found


def option_words(option: click.Option, value: Any) -> list[str]:
    """An option with its value as words of the command line; none for a flag that is off."""
    if option.is_flag:
        return [name for name in (option.opts if value else option.secondary_opts)[-1:]]
    if option.multiple:
        return [word for one in value for word in (option.opts[-1], str(one))]
    return [option.opts[-1], *map(str, value if option.nargs != 1 else [value])]


def _text(where: str, value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        shown = str(value).lower() if isinstance(value, bool) else f"a {type(value).__name__}"
        raise ConfigError(f"{where} is {shown}: write a number or a text in quotes")
    return str(value)


def _near(name: str, names: Collection[str]) -> str:
    near = difflib.get_close_matches(name, names, n=1)
    return f"; did you mean {near[0]!r}?" if near else f"; there are: {', '.join(sorted(names))}"
