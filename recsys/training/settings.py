"""A run's settings from whatever was asked for, over defaults or over those of a run that is resumed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from recsys.data.splits import SplitRecipe
from recsys.errors import ConfigError
from recsys.models import Config, config_from_dict, kind_of
from recsys.training.config import TrainingConfig
from recsys.training.run_info import RunInfo

DEFAULT_KIND = "dot-bias"


@dataclass(frozen=True)
class Settings:
    """What decides a run's result, beside its data."""

    split: SplitRecipe
    kind: str
    config: Config
    training: TrainingConfig


def new_settings(kind: str | None, asked: Mapping[str, Any]) -> Settings:
    """Settings of a new run; what was not asked for takes its default.

    Args:
        kind: of the model; None: `DEFAULT_KIND`.
        asked: by the names of the fields of the configs, and `factors` for both widths of an MLP.

    Raises:
        ConfigError: out of range, or nothing that this model or this split has.
    """
    kind = kind or DEFAULT_KIND
    model, training, split = _sort(kind, asked)
    return Settings(_recipe(split), kind, config_from_dict(kind, model), TrainingConfig(**training))


def check_unchanged(kind: str | None, asked: Mapping[str, Any], info: RunInfo) -> None:
    """Refuse to resume a run with other settings than it was started with.

    Raises:
        ConfigError: something was asked for that the run does not have.
    """
    if kind not in (None, info.model.kind):
        raise ConfigError(_changed("model", info.model.kind, kind))
    stored_parts = info.model.config, asdict(info.training), asdict(info.split)
    for wanted, stored in zip(_sort(info.model.kind, asked), stored_parts, strict=True):
        for name, value in wanted.items():
            value = list(value) if isinstance(value, tuple) else value
            if value != stored[name]:
                raise ConfigError(_changed(name.replace("_", " "), stored[name], value))


def _sort(kind: str, asked: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """Who takes what: the model, the training, the split. `seed` is for both of the latter."""
    asked = {name: value for name, value in asked.items() if value is not None}
    names = {field.name for field in fields(kind_of(kind).config)}
    if "factors" in asked:
        factors = asked.pop("factors")
        asked |= dict.fromkeys({"n_factors", "n_user_factors", "n_item_factors"} & names, factors)
    training = {field.name for field in fields(TrainingConfig)} & asked.keys()
    split = {field.name for field in fields(SplitRecipe)} & asked.keys()
    model = asked.keys() - training - split
    if unknown := model - names:
        options = ", ".join(f"--{name.replace('_', '-')}" for name in sorted(unknown))
        raise ConfigError(f"a {kind} model has no {options}: leave it out, or choose another model")
    first, second, third = ({name: asked[name] for name in group} for group in (model, training, split))
    return first, second, third


def _recipe(asked: dict[str, Any]) -> SplitRecipe:
    if "fold" in asked:
        asked = {"kind": "fold"} | asked
    kind = asked.get("kind", SplitRecipe().kind)
    if "valid_fraction" in asked and kind not in ("random", "by-user"):
        raise ConfigError(f"a {kind} split has no valid-fraction: leave it out")
    return replace(SplitRecipe(), **asked)


def _changed(name: str, stored: object, asked: object) -> str:
    return (
        f"the run has {name} {stored}, and {asked} was asked for: a resumed run keeps its settings. "
        f"Leave the option out, or start a new run."
    )
