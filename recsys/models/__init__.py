"""The models. Each is an `nn.Module` beside its frozen config, and all share one contract:

    forward(user_index: int64 [N], item_index: int64 [N]) -> score: float32 [N]

Tables are parameters of 1 + n_users or 1 + n_items rows; row 0 is "unknown".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any, NamedTuple

import msgspec
from torch import nn

from recsys.errors import ConfigError
from recsys.models.dot import Dot, DotConfig
from recsys.models.dot_bias import DotBias, DotBiasConfig
from recsys.models.mlp import Mlp, MlpConfig

__all__ = [
    "KINDS",
    "Config",
    "Dot",
    "DotBias",
    "DotBiasConfig",
    "DotConfig",
    "Kind",
    "Mlp",
    "MlpConfig",
    "build",
    "check_resolved",
    "config_from_dict",
    "kind_of",
]

Config = DotConfig | DotBiasConfig | MlpConfig


class Kind(NamedTuple):
    """A model's config and module."""

    config: type[Any]
    module: type[nn.Module]


KINDS = {
    "dot": Kind(DotConfig, Dot),
    "dot-bias": Kind(DotBiasConfig, DotBias),
    "mlp": Kind(MlpConfig, Mlp),
}


def kind_of(name: str) -> Kind:
    """Look up a kind of model.

    Raises:
        ConfigError: there is none of that name.
    """
    if name not in KINDS:
        raise ConfigError(f"no model is called {name!r}; there are: {', '.join(KINDS)}")
    return KINDS[name]


def build(kind: str, config: Config, n_users: int, n_items: int) -> nn.Module:
    """Build a model with new weights from torch's random generator. `n_users`, `n_items` leave out row 0.

    Raises:
        ConfigError: an unknown kind, another kind's config, or one whose range is still "auto".
    """
    expected, module = kind_of(kind)
    if type(config) is not expected:
        raise ConfigError(f"model {kind!r} takes a {expected.__name__}, not a {type(config).__name__}")
    check_resolved(config)
    return module(config, n_users, n_items)


def check_resolved(config: Config) -> None:
    """Refuse a config that does not say what it depends on the data for.

    Raises:
        ConfigError: its range is still "auto".
    """
    if config.y_range == "auto":
        raise ConfigError("the y-range is still 'auto': call config.resolve((lowest, highest)) first")


def config_from_dict(kind: str, values: Mapping[str, Any]) -> Config:
    """Make a kind's config from plain values (JSON); what is left out takes its default.

    Raises:
        ConfigError: an unknown kind or setting, or a value of the wrong type or out of range.
    """
    config = kind_of(kind).config
    names = [field.name for field in fields(config)]
    unknown = sorted(set(values) - set(names))
    if unknown:
        raise ConfigError(f"model {kind!r} has no setting {', '.join(unknown)}; it has: {', '.join(names)}")
    try:
        result: Config = msgspec.convert(dict(values), config)
    except msgspec.ValidationError as error:
        raise ConfigError(f"model {kind!r}: {error}") from None
    return result
