"""The kinds of model, in one table. Importing this package does not import torch.

A kind is one file here, with its config, its `KIND` and, for a fitted kind, its `fit`. The torch modules in
`recsys.models.modules` share one contract:

    forward(user_index: int64 [N], item_index: int64 [N]) -> score: float32 [N]

Tables are parameters of 1 + n_users or 1 + n_items rows; row 0 is "unknown".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import TYPE_CHECKING, Any

import msgspec

from recsys.errors import ConfigError
from recsys.models import bayes, dot, dot_bias, ease, ials, mlp
from recsys.models.bayes import BayesConfig
from recsys.models.dot import DotConfig
from recsys.models.dot_bias import DotBiasConfig
from recsys.models.kind import Kind, Objective
from recsys.models.mlp import MlpConfig
from recsys.models.y_range import check_resolved

if TYPE_CHECKING:
    from torch import nn

__all__ = [
    "KINDS",
    "BayesConfig",
    "DotBiasConfig",
    "DotConfig",
    "Kind",
    "MlpConfig",
    "Objective",
    "build",
    "config_from_dict",
    "kind_of",
]

KINDS: dict[str, Kind] = {
    kind.name: kind for kind in (dot.KIND, dot_bias.KIND, mlp.KIND, bayes.KIND, ease.KIND, ials.KIND)
}


def kind_of(name: Kind | str) -> Kind:
    """Look up a kind of model by name; a `Kind` is returned unchanged.

    Raises:
        ConfigError: no kind has that name.
    """
    if isinstance(name, Kind):
        return name
    if name not in KINDS:
        raise ConfigError(f"no model is called {name!r}; there are: {', '.join(KINDS)}")
    return KINDS[name]


def build(kind: Kind | str, config: Any, n_users: int, n_items: int) -> nn.Module:
    """Build a model with new weights from torch's random generator. `n_users`, `n_items` leave out row 0.

    Raises:
        ConfigError: an unknown kind, another kind's config, or a y-range that is still "auto".
    """
    kind = kind_of(kind)
    if type(config) is not kind.config:
        raise ConfigError(
            f"model {kind.name!r} takes a {kind.config.__name__}, not a {type(config).__name__}"
        )
    check_resolved(config)
    return kind.build(config, n_users, n_items)


def config_from_dict(kind: Kind | str, values: Mapping[str, Any]) -> Any:
    """Make a kind's config from plain values (JSON); settings that are left out take their defaults.

    Raises:
        ConfigError: an unknown kind or setting, or a value of the wrong type or out of range.
    """
    kind = kind_of(kind)
    names = [field.name for field in fields(kind.config)]
    if unknown := sorted(set(values) - set(names)):
        raise ConfigError(
            f"model {kind.name!r} has no setting {', '.join(unknown)}; it has: {', '.join(names)}"
        )
    try:
        return msgspec.convert(dict(values), kind.config)
    except msgspec.ValidationError as error:
        raise ConfigError(f"model {kind.name!r}: {error}") from None
