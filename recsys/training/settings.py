"""The settings of a run: what was asked for by flags, over those of a config file, over the defaults."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

import msgspec

from recsys.data.splits import WITH_FRACTION, SplitRecipe
from recsys.errors import ConfigError
from recsys.models import KINDS, Kind, Objective, config_from_dict, kind_of
from recsys.training.config_file import ConfigFile, PartSettings, parse_part, read_preset
from recsys.training.run_info import PartInfo, RunInfo, TrainingConfig

DEFAULT_PRESET = "default"
RANKING_DEFAULTS = {"learning_rate": 0.01, "weight_decay": 0.1}
"""Of a part that is trained to rank: the best of MovieLens latest-small at five epochs, on a part of its
training ratings (docs/experiments.md)."""
WIDTHS = ("n_factors", "n_user_factors", "n_item_factors")
OF_SPLIT = frozenset(field.name for field in fields(SplitRecipe))
OF_RUN = OF_SPLIT | {"objective", "rating_weight"}
"""Settings that are not in the configs of parts, though a kind may have one of the same name."""

Models = str | Sequence[str] | ConfigFile | None
"""KIND or KIND:WEIGHT of each part, or a config file with them; without parts: those of `DEFAULT_PRESET`."""


@dataclass(frozen=True)
class RunSettings:
    """Together with the data, they determine a run's result. The split's seed is that of the whole run."""

    split: SplitRecipe
    parts: list[PartInfo]
    """Not trained yet, each with its whole config; "auto" in it is resolved by the data."""
    rating_weight: float = 0.0
    """Weight of the predicted ratings in the lists, beside parts that rank."""
    is_preset: bool = False
    """Whether the parts are those of a preset, and nobody asked for each of them."""

    def without_ratings(self, name: str) -> RunSettings:
        """Settings for data without ratings, called `name`: a preset leaves its part that predicts them out.

        Raises:
            ConfigError: that part was asked for, or no other is left.
        """
        ranking = [part for part in self.parts if part.objective == "ranking"]
        if len(ranking) == len(self.parts):
            return self
        if not (ranking and self.is_preset):
            (kind,) = (part.kind for part in self.parts if part.objective == "ratings")
            able = [kind.name for kind in KINDS.values() if kind.objectives[0] == "ranking"]
            able += [
                f"{kind.name} with --objective ranking"
                for kind in KINDS.values()
                if "ranking" in kind.objectives[1:]
            ]
            raise ConfigError(
                f"{kind} predicts ratings, and {name} has none to predict (no column of ratings, all of them "
                f"equal, or --implicit). Train parts that rank instead: {', '.join(able)}"
            )
        return replace(self, parts=ranking, rating_weight=0.0)


def new_settings(models: Models, asked: Mapping[str, Any]) -> RunSettings:
    """Settings of a new run, with defaults for what was not asked for.

    Args:
        models: The parts.
        asked: Values by the names of the fields of the configs and the split, `factors` for every width,
            `objective` and `rating_weight`. A setting applies to all parts that have it, whatever the config
            file says; None is the same as not asked for.

    Raises:
        ConfigError: a value out of range, a setting that no part or this split has, two parts that predict
            ratings, an MLP that ranks beside another part, a kind that ranks twice, or a rating weight
            without both kinds of part.
    """
    layers = _Layers(_config_file(models), asked)
    parts = [_new_part(*part) for part in layers.parts()]
    if len(parts) > 1 and any(part.kind == "mlp" and part.objective == "ranking" for part in parts):
        raise ConfigError("an mlp is no product of tables, so as a part that ranks it stands alone")
    predicting = [part.kind for part in parts if part.objective == "ratings"]
    ranking = [part.kind for part in parts if part.objective == "ranking"]
    if twice := [kind for kind in ranking if ranking.count(kind) > 1]:
        raise ConfigError(f"{twice[0]} ranks in two parts: a kind ranks once, with one weight")
    if len(predicting) > 1:
        raise ConfigError(f"{' and '.join(predicting)} both predict ratings: a run has one such part at most")
    split = layers.split()
    if "fold" in split:
        split = {"kind": "fold"} | split
    if "valid_data" in split:
        split = {"kind": "valid-data"} | split
    recipe = SplitRecipe(**split)
    if "valid_fraction" in split and recipe.kind not in WITH_FRACTION:
        raise ConfigError(f"a {recipe.kind} split has no valid-fraction: leave it out")
    rating_weight = layers.run().get("rating_weight")
    if rating_weight is not None:
        check_rating_weight(rating_weight, parts)
    return RunSettings(recipe, parts, float(rating_weight or 0), layers.file.is_preset)


def check_rating_weight(weight: float, parts: Sequence[PartInfo]) -> None:
    """Check the weight of the predicted ratings in the lists.

    Raises:
        ConfigError: it is negative or not finite, there is no part that predicts ratings beside one that
            ranks, or that part is an MLP.
    """
    if not 0 <= weight < math.inf:
        raise ConfigError(f"rating weight is {weight}: it must be a number from 0 on")
    if {part.objective for part in parts} != {"ratings", "ranking"}:
        names = " and ".join(part.kind for part in parts)
        raise ConfigError(
            f"a rating weight is for a part that predicts ratings beside parts that rank, and here is only "
            f"{names}: leave --rating-weight out"
        )
    if weight and any(part.kind == "mlp" for part in parts):
        raise ConfigError(
            "an mlp is no product of tables, so its ratings can't order lists beside other parts: leave "
            "--rating-weight out"
        )


def check_unchanged(models: Models, asked: Mapping[str, Any], info: RunInfo) -> None:
    """Check that a run is resumed with its own settings.

    Raises:
        ConfigError: a setting that was asked for differs from the run's.
    """
    stored = [PartSettings(kind_of(part.kind), part.weight) for part in info.parts]
    file = _config_file(models) if models else ConfigFile({}, stored)
    if file.is_preset and info.data.implicit:
        file = replace(file, parts=[part for part in file.parts if part.kind.objectives[0] == "ranking"])
    names = [_names(parts) for parts in (file.parts, stored)]
    if changed := difference({"model": names[0]}, {"model": names[1]}):
        raise _changed(changed)
    layers = _Layers(file, asked)
    pairs: list[tuple[Mapping[str, Any], Mapping[str, Any]]] = [(layers.split(), asdict(info.split))]
    if not info.data.implicit:
        pairs.append((layers.run(), {"rating_weight": info.rating_weight}))
    for part, (_, objective, model, training) in zip(info.parts, layers.parts(), strict=True):
        pairs += [(model, part.config), (training, asdict(part.training) if part.training else {})]
        if asked.get("objective"):
            pairs.append(({"objective": objective}, {"objective": part.objective}))
    for wanted, kept in pairs:
        if changed := difference(wanted, kept):
            raise _changed(changed)


def difference(asked: Mapping[str, Any], stored: Mapping[str, Any]) -> str | None:
    """The first setting of both that was asked for with another value, in words."""
    for name in asked:
        one, other = (list(v) if isinstance(v, tuple) else v for v in (asked[name], stored.get(name)))
        if name in stored and one != other:
            return f"{name.replace('_', ' ')} {other}, and {one} was asked for"
    return None


def _changed(what: str) -> ConfigError:
    return ConfigError(
        f"the run has {what}: a resumed run keeps its settings. Leave the option out, or start a new run."
    )


def _a(names: str) -> str:
    return f"an {names}" if names[0] in "aeiou" else f"a {names}"


def _names(parts: Sequence[PartSettings]) -> str:
    return " and ".join(
        part.kind.name if part.weight in (None, 1) else f"{part.kind.name}:{part.weight:g}" for part in parts
    )


def _config_file(models: Models) -> ConfigFile:
    """The parts in one form, those of the default preset with its settings where none are named."""
    if not isinstance(models, ConfigFile):
        texts = [models] if isinstance(models, str) else models or []
        models = ConfigFile({}, [parse_part(text) for text in texts])
    if models.parts:
        return models
    preset = read_preset(DEFAULT_PRESET)
    return replace(preset, settings={**preset.settings, **models.settings})


def _new_part(
    part: PartSettings, objective: Objective, model: Mapping[str, Any], training: Mapping[str, Any]
) -> PartInfo:
    name = part.kind.name
    if objective == "ratings" and part.weight is not None:
        raise ConfigError(f"{name} predicts ratings here, and only parts that rank have a weight")
    defaults: dict[str, Any] = {"weight_decay": part.kind.weight_decay}
    if objective == "ranking" and not part.kind.fit:
        if "y_range" in model:
            raise ConfigError(f"{_a(name)} that ranks has no y-range: its scores are no ratings")
        model, defaults = {**model, "y_range": None}, RANKING_DEFAULTS
    try:
        trained = None if part.kind.fit else msgspec.convert({**defaults, **training}, TrainingConfig)
    except msgspec.ValidationError as error:
        raise ConfigError(f"model {name!r}: {error}") from None
    return PartInfo(
        kind=name,
        config=asdict(config_from_dict(part.kind, model)),
        objective=objective,
        weight=1.0 if part.weight is None else part.weight,
        training=trained,
    )


class _Layers:
    """Settings in three layers: of the file, of a part in it, and by flags, each over the one before.

    Raises:
        ConfigError: a setting that nothing has.
    """

    def __init__(self, file: ConfigFile, asked: Mapping[str, Any]) -> None:
        self.file = file
        self._asked = {name: value for name, value in asked.items() if value is not None}
        self._common = dict(file.settings)
        if {
            "kind",
            "fold",
            "valid_data",
        } & self._asked.keys():  # another split: that of the file is replaced as a whole
            self._common = {n: v for n, v in self._common.items() if n not in OF_SPLIT - {"seed"}}
        both = self._common.keys() | self._asked.keys()
        kinds = [part.kind for part in file.parts]
        used = OF_RUN.union(*(_settings_of(kind) for kind in kinds))
        if unknown := both - used:
            options = ", ".join(f"--{name.replace('_', '-')}" for name in sorted(unknown))
            names = " or ".join(kind.name for kind in kinds)
            raise ConfigError(f"{_a(names)} model has no {options}: leave it out, or choose another model")
        for part in file.parts:
            if wrong := sorted(part.settings.keys() - _settings_of(part.kind)):
                has = ", ".join(sorted(_settings_of(part.kind)))
                raise ConfigError(f"{_a(part.kind.name)} part has no {', '.join(wrong)}; it has: {has}")
        wanted = self._asked.get("objective")
        if wanted is not None and not any(wanted in kind.objectives for kind in kinds):
            names = " and ".join(kind.name for kind in kinds)
            raise ConfigError(f"{names} can't be trained for {wanted}: leave out --objective {wanted}")

    def run(self) -> dict[str, Any]:
        """Settings of the run beside its split."""
        return {n: v for n, v in (self._common | self._asked).items() if n == "rating_weight"}

    def split(self) -> dict[str, Any]:
        """Settings of the split."""
        return {n: v for n, v in (self._common | self._asked).items() if n in OF_SPLIT}

    def parts(self) -> Iterator[tuple[PartSettings, Any, dict[str, Any], dict[str, Any]]]:
        """Each part with its objective, and the settings of its model and its training."""
        for part in self.file.parts:
            layers = [
                {n: v for n, v in layer.items() if n not in OF_RUN} for layer in (self._common, self._asked)
            ]
            model: dict[str, Any] = {}
            training: dict[str, Any] = {}
            for layer in (layers[0], dict(part.settings), layers[1]):
                widths = dict.fromkeys(WIDTHS, layer["factors"]) if "factors" in layer else {}
                model |= _of(part.kind.config, widths | layer)
                training |= {} if part.kind.fit else _of(TrainingConfig, layer)
            objectives = [
                objective
                for objective in (
                    self._asked.get("objective"),
                    part.objective,
                    self._common.get("objective"),
                )
                if objective in part.kind.objectives
            ]
            yield part, [*objectives, part.kind.objectives[0]][0], model, training


def _of(config: type[Any], values: Mapping[str, Any]) -> dict[str, Any]:
    return {field.name: values[field.name] for field in fields(config) if field.name in values}


def _settings_of(kind: Kind) -> set[str]:
    """The names of a kind's settings."""
    names = {field.name for field in fields(kind.config)}
    names |= {"factors"} if names & set(WIDTHS) else set()
    return names | ({field.name for field in fields(TrainingConfig)} if kind.fit is None else set())
