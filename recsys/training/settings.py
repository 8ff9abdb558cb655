"""The settings of a run: what was asked for, over the defaults."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from recsys.data.splits import WITH_FRACTION, SplitRecipe
from recsys.errors import ConfigError
from recsys.models import Kind, config_from_dict, kind_of
from recsys.training.run_info import PartInfo, RunInfo, TrainingConfig

DEFAULT_KIND = "dot-bias"
WIDTHS = ("n_factors", "n_user_factors", "n_item_factors")


@dataclass(frozen=True)
class RunSettings:
    """Together with the data, they determine a run's result. The split's seed is that of the whole run."""

    split: SplitRecipe
    parts: list[PartInfo]
    """Not trained yet, each with its whole config; "auto" in it is resolved by the data."""


def parse_part(text: str) -> tuple[Kind, float]:
    """Parse KIND or KIND:WEIGHT; the weight is 1 by default.

    Raises:
        ConfigError: an unknown kind; a weight that is not a positive number, or of a kind that only predicts
            ratings.
    """
    name, colon, number = text.partition(":")
    kind = kind_of(name)
    if not colon:
        return kind, 1.0
    if "ranking" not in kind.objectives:
        raise ConfigError(f"{text}: {name} predicts ratings, and only parts that rank have a weight")
    try:
        weight = float(number)
    except ValueError:
        weight = math.nan
    if not 0 < weight < math.inf:
        raise ConfigError(f"{text}: the weight must be a number above 0")
    return kind, weight


def new_settings(models: str | Sequence[str] | None, asked: Mapping[str, Any]) -> RunSettings:
    """Settings of a new run, with defaults for what was not asked for.

    Args:
        models: KIND or KIND:WEIGHT of each part; None or empty: `DEFAULT_KIND`.
        asked: Values by the names of the fields of the configs and the split, and `factors` for every width.
            A setting applies to all parts that have it; None is the same as not asked for.

    Raises:
        ConfigError: a value out of range, a setting that no part or this split has, or two parts that predict
            ratings.
    """
    chosen = _parse_parts(models)
    shares, split = _share([kind for kind, _ in chosen], asked)
    parts = [
        PartInfo(
            kind=kind.name,
            config=asdict(config_from_dict(kind, model)),
            objective=kind.objectives[0],
            weight=weight,
            training=None if kind.fit else TrainingConfig(**{"weight_decay": kind.weight_decay} | training),
        )
        for (kind, weight), (model, training) in zip(chosen, shares, strict=True)
    ]
    predicting = [part.kind for part in parts if part.objective == "ratings"]
    if len(predicting) > 1:
        raise ConfigError(f"{' and '.join(predicting)} both predict ratings: a run has one such part at most")
    if "fold" in split:
        split = {"kind": "fold"} | split
    if "valid_data" in split:
        split = {"kind": "valid-data"} | split
    recipe = SplitRecipe(**split)
    if "valid_fraction" in split and recipe.kind not in WITH_FRACTION:
        raise ConfigError(f"a {recipe.kind} split has no valid-fraction: leave it out")
    return RunSettings(recipe, parts)


def check_unchanged(models: str | Sequence[str] | None, asked: Mapping[str, Any], info: RunInfo) -> None:
    """Check that a run is resumed with its own settings.

    Raises:
        ConfigError: a setting that was asked for differs from the run's.
    """
    chosen = [(kind_of(part.kind), part.weight) for part in info.parts]
    shares, split = _share([kind for kind, _ in chosen], asked)
    pairs = [(split, asdict(info.split))]
    if models:
        names = [
            " and ".join(kind.name if weight == 1 else f"{kind.name}:{weight:g}" for kind, weight in parts)
            for parts in (_parse_parts(models), chosen)
        ]
        pairs.insert(0, ({"model": names[0]}, {"model": names[1]}))
    for part, (model, training) in zip(info.parts, shares, strict=True):
        pairs += [(model, part.config), (training, asdict(part.training) if part.training else {})]
    for wanted, stored in pairs:
        if changed := difference(wanted, stored):
            raise ConfigError(
                f"the run has {changed}: a resumed run keeps its settings. Leave the option out, or start a "
                f"new run."
            )


def difference(asked: Mapping[str, Any], stored: Mapping[str, Any]) -> str | None:
    """The first setting of both that was asked for with another value, in words."""
    for name in asked:
        one, other = (list(v) if isinstance(v, tuple) else v for v in (asked[name], stored.get(name)))
        if name in stored and one != other:
            return f"{name.replace('_', ' ')} {other}, and {one} was asked for"
    return None


def _parse_parts(models: str | Sequence[str] | None) -> list[tuple[Kind, float]]:
    texts = [models] if isinstance(models, str) else models or [DEFAULT_KIND]
    return [parse_part(text) for text in texts]


def _share(
    kinds: list[Kind], asked: Mapping[str, Any]
) -> tuple[list[tuple[dict[str, Any], dict[str, Any]]], dict[str, Any]]:
    """Sort settings into those of each part's model and training, and those of the split."""
    asked = {name: value for name, value in asked.items() if value is not None}

    def of(config: type[Any], values: Mapping[str, Any]) -> dict[str, Any]:
        return {field.name: values[field.name] for field in fields(config) if field.name in values}

    split = of(SplitRecipe, asked)
    used, shares = set(split), []
    for kind in kinds:
        widths = dict.fromkeys(WIDTHS, asked["factors"]) if "factors" in asked else {}
        model = of(kind.config, widths | asked)
        training = of(TrainingConfig, asked) if kind.fit is None else {}
        used |= {*model, *training, *(["factors"] if set(WIDTHS) & set(model) else [])}
        shares.append((model, training))
    if unknown := asked.keys() - used:
        options = ", ".join(f"--{name.replace('_', '-')}" for name in sorted(unknown))
        names = " or ".join(kind.name for kind in kinds)
        raise ConfigError(f"a {names} model has no {options}: leave it out, or choose another model")
    return shares, split
