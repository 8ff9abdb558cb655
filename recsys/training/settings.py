"""Settings of a run: what was asked for, over the defaults or over those of a run that is resumed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import TYPE_CHECKING, Any

from recsys.data.splits import SplitRecipe
from recsys.errors import ConfigError
from recsys.models import KINDS, Kind, Objective, config_from_dict, kind_of
from recsys.training.config import TrainingConfig

if TYPE_CHECKING:
    from recsys.training.run_info import RunInfo

DEFAULT_KIND = "dot-bias"
WIDTHS = ("n_factors", "n_user_factors", "n_item_factors")


@dataclass(frozen=True)
class PartSettings:
    """Settings of one model of a run."""

    kind: Kind
    config: Any
    objective: Objective
    weight: float
    training: TrainingConfig | None
    """None: a kind that is fitted, not trained by gradient."""


@dataclass(frozen=True)
class RunSettings:
    """What decides a run's result, beside its data."""

    split: SplitRecipe
    seed: int
    parts: tuple[PartSettings, ...]


def parse_part(text: str, kinds: Mapping[str, Kind] = KINDS) -> tuple[Kind, float]:
    """Parse KIND or KIND:WEIGHT; the weight is 1 by default.

    Raises:
        ConfigError: an unknown kind; a weight that is not a number above 0, or of a kind that only predicts
            ratings.
    """
    name, colon, number = text.partition(":")
    kind = kind_of(name, kinds)
    if not colon:
        return kind, 1.0
    if "ranking" not in kind.objectives:
        raise ConfigError(f"{text}: {name} predicts ratings, and only parts that rank have a weight")
    try:
        weight = float(number)
    except ValueError:
        weight = math.nan
    if not (math.isfinite(weight) and weight > 0):
        raise ConfigError(f"{text}: the weight must be a number above 0")
    return kind, weight


def new_settings(
    models: str | Sequence[str] | None, asked: Mapping[str, Any], kinds: Mapping[str, Kind] = KINDS
) -> RunSettings:
    """Settings of a new run; what was not asked for takes its default.

    Args:
        models: KIND or KIND:WEIGHT of each part; none: `DEFAULT_KIND`.
        asked: by the names of the fields of the configs and the split, `seed`, and `factors` for every width.
            A setting applies to all parts that have it.
        kinds: by name.

    Raises:
        ConfigError: a value out of range, a setting that no part or this split has, or two parts that predict
            ratings.
    """
    chosen = _parse_parts(models, kinds)
    shares, split = _share([kind for kind, _ in chosen], asked)
    parts = []
    for (kind, weight), (model, training) in zip(chosen, shares, strict=True):
        config = config_from_dict(kind, model)
        gradient = None
        if kind.fit is None:
            gradient = TrainingConfig(**{"weight_decay": kind.weight_decay} | training)
        parts.append(PartSettings(kind, config, kind.objectives[0], weight, gradient))
    predicting = [part.kind.name for part in parts if part.objective == "ratings"]
    if len(predicting) > 1:
        raise ConfigError(
            f"{' and '.join(predicting)} both predict ratings, and a run predicts a rating by one part only: "
            f"choose one of them"
        )
    recipe = _recipe(split)
    return RunSettings(recipe, recipe.seed, tuple(parts))


def check_unchanged(
    models: str | Sequence[str] | None,
    asked: Mapping[str, Any],
    info: RunInfo,
    kinds: Mapping[str, Kind] = KINDS,
) -> None:
    """Check that a run is resumed with the settings that it was started with.

    Raises:
        ConfigError: a setting was asked for that differs from the run's.
    """
    stored_parts = [(kind_of(part.kind, kinds), part.weight) for part in info.parts]
    if models and (chosen := _parse_parts(models, kinds)) != stored_parts:
        raise ConfigError(_changed("model", _named(stored_parts), _named(chosen)))
    shares, split = _share([kind for kind, _ in stored_parts], asked)
    pairs = [(split, asdict(info.split))]
    for part, (model, training) in zip(info.parts, shares, strict=True):
        pairs += [(model, part.config), (training, asdict(part.training) if part.training else {})]
    for wanted, stored in pairs:
        for name, value in wanted.items():
            value = list(value) if isinstance(value, tuple) else value
            if value != stored[name]:
                raise ConfigError(_changed(name.replace("_", " "), stored[name], value))


def _parse_parts(models: str | Sequence[str] | None, kinds: Mapping[str, Kind]) -> list[tuple[Kind, float]]:
    texts = [models] if isinstance(models, str) else models or [DEFAULT_KIND]
    return [parse_part(text, kinds) for text in texts]


def _named(parts: list[tuple[Kind, float]]) -> str:
    return " and ".join(kind.name if weight == 1 else f"{kind.name}:{weight:g}" for kind, weight in parts)


def _share(
    kinds: list[Kind], asked: Mapping[str, Any]
) -> tuple[list[tuple[dict[str, Any], dict[str, Any]]], dict[str, Any]]:
    """Sort settings into those of each part (model, training) and those of the split with the seed."""
    asked = {name: value for name, value in asked.items() if value is not None}
    split = _of(SplitRecipe, asked)
    used, shares = set(split), []
    for kind in kinds:
        widths = dict.fromkeys(WIDTHS, asked["factors"]) if "factors" in asked else {}
        model = _of(kind.config, widths | asked)
        training = _of(TrainingConfig, asked) if kind.fit is None else {}
        used |= {*model, *training, *(["factors"] if set(WIDTHS) & set(model) else [])}
        shares.append((model, training))
    if unknown := asked.keys() - used:
        options = ", ".join(f"--{name.replace('_', '-')}" for name in sorted(unknown))
        names = " or ".join(kind.name for kind in kinds)
        raise ConfigError(f"a {names} model has no {options}: leave it out, or choose another model")
    return shares, split


def _of(config: type[Any], asked: Mapping[str, Any]) -> dict[str, Any]:
    return {field.name: asked[field.name] for field in fields(config) if field.name in asked}


def _recipe(asked: dict[str, Any]) -> SplitRecipe:
    if "fold" in asked:
        asked = {"kind": "fold"} | asked
    kind = asked.get("kind", SplitRecipe.kind)
    if "valid_fraction" in asked and kind not in ("random", "by-user"):
        raise ConfigError(f"a {kind} split has no valid-fraction: leave it out")
    return replace(SplitRecipe(), **asked)


def _changed(name: str, stored: object, asked: object) -> str:
    return (
        f"the run has {name} {stored}, and {asked} was asked for: a resumed run keeps its settings. "
        f"Leave the option out, or start a new run."
    )
