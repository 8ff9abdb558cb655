"""Settings of a run from a TOML file: the run's at the top or in `[train]`, and a `[[part]]` for each part.

Tables of other commands may stand beside them (`recsys.project_file`).

Presets are such files inside the package.
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

from recsys.errors import ConfigError
from recsys.models import Kind, Objective, kind_of
from recsys.project_file import read_toml
from serve.reading.cells import parse_number

PRESETS = ("default", "ml-100k-ranking", "ml-100k-ratings")
# Flags that are no fields of that name.
FIELDS = {"split": "kind"}


@dataclass(frozen=True)
class PartSettings:
    """What was asked for one part."""

    kind: Kind
    weight: float | None = None
    """None: not asked for, which is 1."""
    objective: Objective | None = None
    """None: not asked for."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """By the names of the fields of the part's configs; `factors` stands for every width."""


@dataclass(frozen=True)
class ConfigFile:
    """The contents of a file."""

    settings: Mapping[str, Any]
    """Of the run and, where a part does not have its own, of every part with such a setting; by field."""
    parts: Sequence[PartSettings]
    """Empty: the file names none."""
    is_preset: bool = False


def read_config(file: Path) -> ConfigFile:
    """Read a TOML file. Names of settings are those of the flags, with or without dashes.

    Raises:
        ConfigError: it can't be read or is no TOML, a setting is there twice, or a part has no valid model,
            weight or objective.
    """
    return _config(file, read_toml(file))


def _config(file: object, values: dict[str, Any]) -> ConfigFile:
    tables, of_train = values.pop("part", []), values.pop("train", {})
    values = {name: value for name, value in values.items() if not isinstance(value, dict)}
    if not isinstance(of_train, dict):
        raise ConfigError(f"{file}: train is a command, so its settings are a table: [train]")
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise ConfigError(f"{file}: parts are tables that begin with [[part]]")
    try:
        at_top, in_train = _fields(values), _fields(of_train)
        if twice := at_top.keys() & in_train.keys():
            raise ConfigError(f"{', '.join(sorted(twice))} at the top and in [train]: keep one of them")
        return ConfigFile(at_top | in_train, [_part(_fields(table)) for table in tables])
    except ConfigError as error:
        raise ConfigError(f"{file}: {error}") from None


def read_preset(name: str) -> ConfigFile:
    """Read one of `PRESETS`.

    Raises:
        ConfigError: there is no such preset.
    """
    if name not in PRESETS:
        raise ConfigError(f"no preset is called {name!r}; there are: {', '.join(PRESETS)}")
    source = files("recsys") / "presets" / f"{name}.toml"
    file = _config(name, tomllib.loads(source.read_text(encoding="utf-8")))
    return ConfigFile(file.settings, file.parts, is_preset=True)


def parse_part(text: str) -> PartSettings:
    """Parse KIND or KIND:WEIGHT.

    Raises:
        ConfigError: an unknown kind; a weight that is not a positive number, or of a kind that can't rank.
    """
    name, colon, number = text.partition(":")
    if not colon:
        return PartSettings(kind_of(name))
    try:
        weight = parse_number(number)
    except ValueError:
        weight = math.nan
    return PartSettings(kind_of(name), _checked_weight(kind_of(name), weight))


def _fields(values: Mapping[str, Any]) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    for name, value in values.items():
        setting = name.replace("-", "_")
        setting = FIELDS.get(setting, setting)
        if setting in fields:
            raise ConfigError(f"{setting} is set twice: keep one of them")
        fields[setting] = value
    return fields


def _part(values: dict[str, Any]) -> PartSettings:
    model = values.pop("model", None)
    if not isinstance(model, str):
        raise ConfigError('a [[part]] needs a model, such as model = "ials"')
    kind = kind_of(model)
    weight, objective = values.pop("weight", None), values.pop("objective", None)
    if weight is not None:
        weight = _checked_weight(kind, weight)
    if objective is not None and objective not in kind.objectives:
        raise ConfigError(f"{model} has no objective {objective!r}; it has: {', '.join(kind.objectives)}")
    return PartSettings(kind, weight, objective, values)


def _checked_weight(kind: Kind, weight: Any) -> float:
    if "ranking" not in kind.objectives:
        raise ConfigError(f"{kind.name} predicts ratings, and only parts that rank have a weight")
    if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 < weight < math.inf:
        raise ConfigError(f"{kind.name}: the weight must be a number above 0")
    return float(weight)
