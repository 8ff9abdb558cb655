"""The settings of a run: what was asked for, over the defaults."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from recsys.data.splits import SplitRecipe
from recsys.errors import ConfigError
from recsys.models import Kind, Objective, config_from_dict, kind_of
from recsys.training.run_info import PartInfo, RunInfo, TrainingConfig

DEFAULT_KIND = "dot-bias"
RANKING_DEFAULTS = {"learning_rate": 0.01, "weight_decay": 0.1}
"""Of a part that is trained to rank: the best of MovieLens latest-small at five epochs, on a part of its
training ratings (docs/experiments.md)."""
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
            A setting applies to all parts that have it; None is the same as not asked for. `objective` is
            "ratings" or "ranking".

    Raises:
        ConfigError: a value out of range, a setting that no part or this split has, two parts that predict
            ratings, or an MLP that ranks beside another part.
    """
    chosen = _parse_parts(models)
    asked = {**asked}
    objective = asked.pop("objective", None)
    if objective and not any(objective in kind.objectives for kind, _ in chosen):
        names = " and ".join(kind.name for kind, _ in chosen)
        raise ConfigError(f"{names} can't be trained for {objective}: leave out --objective {objective}")
    shares, split = _share([kind for kind, _ in chosen], asked)
    parts = [
        _new_part(kind, weight, objective, model, training)
        for (kind, weight), (model, training) in zip(chosen, shares, strict=True)
    ]
    if len(parts) > 1 and any(part.kind == "mlp" and part.objective == "ranking" for part in parts):
        raise ConfigError("an mlp is no product of tables, so as a part that ranks it stands alone")
    predicting = [part.kind for part in parts if part.objective == "ratings"]
    if len(predicting) > 1:
        raise ConfigError(f"{' and '.join(predicting)} both predict ratings: a run has one such part at most")
    if "fold" in split:
        split = {"kind": "fold"} | split
    recipe = SplitRecipe(**split)
    if "valid_fraction" in split and recipe.kind not in ("random", "by-user"):
        raise ConfigError(f"a {recipe.kind} split has no valid-fraction: leave it out")
    return RunSettings(recipe, parts)


def _new_part(
    kind: Kind,
    weight: float,
    objective: Objective | None,
    model: Mapping[str, Any],
    training: Mapping[str, Any],
) -> PartInfo:
    """A part with the objective that was asked for, if its kind has it."""
    if objective is None or objective not in kind.objectives:
        objective = kind.objectives[0]
    defaults: dict[str, Any] = {"weight_decay": kind.weight_decay}
    if objective == "ratings" and weight != 1:
        raise ConfigError(f"{kind.name}:{weight:g}: only parts that rank have a weight (--objective ranking)")
    if objective == "ranking" and kind.fit is None:
        if "y_range" in model:
            raise ConfigError(f"a {kind.name} that ranks has no y-range: its scores are no ratings")
        model, defaults = {**model, "y_range": None}, RANKING_DEFAULTS
    return PartInfo(
        kind=kind.name,
        config=asdict(config_from_dict(kind, model)),
        objective=objective,
        weight=weight,
        training=None if kind.fit else TrainingConfig(**{**defaults, **training}),
    )


def check_unchanged(models: str | Sequence[str] | None, asked: Mapping[str, Any], info: RunInfo) -> None:
    """Check that a run is resumed with its own settings.

    Raises:
        ConfigError: a setting that was asked for differs from the run's.
    """
    chosen = [(kind_of(part.kind), part.weight) for part in info.parts]
    asked = {**asked}
    objective = asked.pop("objective", None)
    if objective and all(part.objective != objective for part in info.parts):
        raise ConfigError(
            f"the run has no part that was trained for {objective}: leave out --objective {objective}, or "
            f"start a new run"
        )
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
