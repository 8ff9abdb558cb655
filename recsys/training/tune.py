"""Search for the parts, strengths and weights that rank a data set's held-out ratings best."""

from __future__ import annotations

import itertools
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from recsys.data.interactions import Interactions
from recsys.data.splits import SplitRecipe, split
from recsys.evaluation.evaluate import USERS_AT_ONCE, ranked_users
from recsys.evaluation.ranking import RatedItems, ranking_metrics
from recsys.models.scoring import ranker
from recsys.models.side_by_side import side_by_side
from recsys.training.checkpoint import load_run
from recsys.training.session import AUTO, Machine
from recsys.training.settings import new_settings
from recsys.training.train import train

K = 10
# Share of the time for the strengths of single parts; the rest is for their weights.
PARTS_SHARE = 0.8
# Lists of so many users decide: their nDCG has a standard error of about 0.005.
MAX_USERS = 3_000
WEIGHTS = (0.0, 0.25, 0.5, 1.0)
RATING_WEIGHTS = (0.0, 0.25, 0.5)


@dataclass(frozen=True)
class Trial:
    """One setting of a part, or one combination of parts."""

    name: str
    settings: Mapping[str, Any]
    ndcg: float
    seconds: float


@dataclass(frozen=True)
class Tuned:
    """The best combination of parts."""

    parts: list[dict[str, Any]]
    """Each a `[[part]]` of a configuration file: `model`, `weight`, settings."""
    rating_weight: float
    ndcg: float
    trials: list[Trial] = field(default_factory=list)


def tune(
    data: Interactions,
    seconds: float,
    *,
    ratings: bool = True,
    seed: int = 42,
    machine: Machine = AUTO,
    on_trial: Callable[[Trial], None] = lambda trial: None,
) -> Tuned:
    """Search until the time is up; each part is tried once in any case, with its defaults.

    A fifth of each user's ratings is held out, and never a part of the training. First the strengths of
    `ease` and `ials` are drawn at random around their defaults, in turn; then the weights of the best of
    each, and of the predicted ratings, are compared on the trained tables.

    Args:
        data: ratings of one's own.
        seconds: how long, at most about.
        ratings: whether a part predicts ratings, too.
        seed: of the split and the draws.
        machine: where parts are fitted.
        on_trial: called after each trial.
    """
    started = time.perf_counter()
    recipe = SplitRecipe(kind="stratified", seed=seed)
    judge = _Judge(data, recipe)
    rng = np.random.default_rng(seed)
    best: dict[str, tuple[Trial, nn.Module]] = {}
    trials: list[Trial] = []

    def fit(kind: str, settings: Mapping[str, Any]) -> nn.Module:
        began = time.perf_counter()
        asked = {"kind": recipe.kind, "seed": seed, **settings}
        with tempfile.TemporaryDirectory() as folder:
            train(data, new_settings(kind, asked), Path(folder) / "run", machine=machine)
            model = load_run(Path(folder) / "run").part.model()
        trial = Trial(kind, settings, judge.ndcg(model), time.perf_counter() - began)
        trials.append(trial)
        on_trial(trial)
        if kind not in best or trial.ndcg > best[kind][0].ndcg:
            best[kind] = trial, model
        return model

    rating_model = fit("bayes", {}) if ratings else None
    for number, (kind, settings) in enumerate(_draws(rng)):
        if number >= 2 and time.perf_counter() - started > PARTS_SHARE * seconds:
            break
        fit(kind, settings)
    kinds = [kind for kind in ("ease", "ials") if kind in best]
    found = []
    for *weights, rating_weight in itertools.product(*[WEIGHTS] * len(kinds), RATING_WEIGHTS):
        if max(weights) < 1 or (rating_weight and rating_model is None):
            continue  # only ratios matter: the largest is 1
        models = [best[kind][1] for kind, weight in zip(kinds, weights, strict=True) if weight]
        used = [weight for weight in weights if weight]
        if rating_weight and rating_model is not None:
            models, used = [*models, rating_model], [*used, rating_weight]
        began = time.perf_counter()
        score = judge.ndcg(side_by_side(models, used))
        named = dict(zip(kinds, weights, strict=True)) | {"rating_weight": rating_weight}
        trials.append(Trial("weights", named, score, time.perf_counter() - began))
        on_trial(trials[-1])
        found.append((score, weights, rating_weight))
    score, weights, rating_weight = max(found, key=lambda one: one[0])
    parts: list[dict[str, Any]] = [{"model": "bayes"}] if ratings else []
    parts += [
        {"model": kind, "weight": weight, **best[kind][0].settings}
        for kind, weight in zip(kinds, weights, strict=True)
        if weight
    ]
    return Tuned(parts, rating_weight, score, trials)


def _draws(rng: np.random.Generator) -> Iterator[tuple[str, dict[str, Any]]]:
    """Kinds and settings to try, without end: the defaults, then draws around them."""
    yield "ease", {}
    yield "ials", {}
    while True:
        strength, unobserved = 10 ** rng.uniform(-1, 1, 2)
        yield (
            "ials",
            {
                "regularization": _digits(9.0 * strength),
                "unobserved_weight": _digits(0.45 * unobserved),
            },
        )
        yield (
            "ease",
            {
                "regularization": _digits(500.0 * 10 ** rng.uniform(-1, 1)),
                "user_power": float(rng.choice([0.0, 0.25, 0.5])),
            },
        )


def _digits(value: float) -> float:
    """Rounded to two digits: more are noise."""
    return float(f"{value:.2g}")


class _Judge:
    """nDCG of a model's lists on the held-out ratings."""

    def __init__(self, data: Interactions, recipe: SplitRecipe) -> None:
        sides = split(data, recipe)
        self.n_items = data.n_items
        self.seen = RatedItems.of(data.user_index[sides.train], data.item_index[sides.train], data.n_users)
        held_out = data.user_index[sides.valid], data.item_index[sides.valid]
        self.held_out = RatedItems.of(*held_out, data.n_users)
        self.users = ranked_users(held_out[0])
        if len(self.users) > MAX_USERS:
            self.users = np.sort(np.random.default_rng(0).choice(self.users, MAX_USERS, replace=False))

    def ndcg(self, model: nn.Module) -> float:
        """nDCG@10."""
        rank = ranker(model, self.n_items)
        batches = np.split(self.users, range(USERS_AT_ONCE, len(self.users), USERS_AT_ONCE))
        lists = [rank(users, self.seen.padded(users), K) for users in batches]
        return ranking_metrics(self.users, np.concatenate(lists), self.held_out)["ndcg_at_k"]
