"""The protocols of `quality.py`: what a bundle is fitted to, and how it is measured through its graphs."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from export.add_items.add_items import add_items
from export.graphs.compare_lists import compare_lists
from export.write.bundle import export_run
from export.write.run_inputs import load_run_inputs
from recsys.data import load
from recsys.data.interactions import Interactions
from recsys.data.splits import Split, SplitRecipe, split
from recsys.evaluation.evaluate import Recommend, evaluate
from recsys.evaluation.ranking import RatedItems
from recsys.training.config_file import PRESETS, read_preset
from recsys.training.settings import RunSettings, new_settings
from recsys.training.train import Machine, train
from serve import Recommender

K = 10
USERS_AT_ONCE = 256


class Fitted:
    """A bundle that was fitted to ratings and exported, and how long that took."""

    def __init__(self, data: Interactions, settings: RunSettings, folder: Path) -> None:
        self.data, self.folder = data, folder
        started = time.perf_counter()
        train(data, settings, folder / "run", machine=Machine("cpu"), overwrite=True)
        self.seconds = time.perf_counter() - started
        export_run(folder / "run", folder / "bundle", overwrite=True)
        self.recommender = Recommender.load(folder / "bundle", "cpu")

    def lists(
        self, users: np.ndarray, items: np.ndarray, recommend: Recommend | None = None
    ) -> dict[str, float]:
        """nDCG, coverage and popularity of the lists of the users of held-out pairs, int [n] each."""

        def rank(user_index: np.ndarray, exclude: np.ndarray, k: int) -> np.ndarray:
            return self.recommender.rank(
                user_index, k, exclude_seen=False, exclude_item_indices=list(exclude)
            )[0]

        both = replace(
            self.data,
            user_index=np.append(self.data.user_index, users),
            item_index=np.append(self.data.item_index, items),
            ratings=np.append(self.data.ratings, np.zeros(len(users), np.float32)),
            timestamps=None,
        )
        n = len(self.data)
        found = evaluate(both, Split(np.arange(n), np.arange(n, len(both))), None, recommend or rank, K)
        return {
            "ndcg": found["ndcg_at_k"],
            "coverage": found["coverage_at_k"],
            "popularity": found["popularity_at_k"],
            "seconds": self.seconds,
        }

    def rmse(self, users: np.ndarray, items: np.ndarray, ratings: np.ndarray) -> dict[str, float]:
        """RMSE of score.onnx, and its difference from float64."""
        scores = self.recommender.score_indices(users.astype(np.int64), items.astype(np.int64))
        arrays = load_run_inputs(self.folder / "run").arrays
        exact = np.empty(len(users))
        for user in np.unique(users):
            rows = users == user
            exact[rows] = arrays.scores64(np.array([user]))[0, items[rows]]
        figures = [float(np.sqrt(np.mean((found - ratings) ** 2))) for found in (scores, exact)]
        return {"rmse": figures[0], "off_float64": abs(figures[0] - figures[1]), "seconds": self.seconds}

    def list_errors(self) -> float:
        """Share of ranks of all users' lists that differ from float64's, ties aside."""
        loaded = load_run_inputs(self.folder / "run")
        inputs = loaded.inputs(100, raw_ids=False, fold_in=(None, None))
        seen = RatedItems.of(self.data.user_index, self.data.item_index, self.data.n_users)
        tolerance = 1e-5 * inputs.list_span
        agreements = []
        for start in range(1, self.data.n_users + 1, USERS_AT_ONCE):
            users = np.arange(start, min(start + USERS_AT_ONCE, self.data.n_users + 1))
            exclude = seen.padded(users)
            found = self.recommender.run_graph(
                "recommend", {"user_index": users, "exclude_item_indices": exclude}
            )
            _, agreement = compare_lists(
                inputs.lists.scores64(users),
                exclude,
                found["top_item_indices"],
                found["top_scores"],
                tolerance,
            )
            agreements.append((agreement, len(users)))
        shares, sizes = zip(*agreements, strict=True)
        return 1.0 - float(np.average(shares, weights=sizes))


def movielens_100k() -> Interactions:
    """MovieLens 100K, from the zip that the environment variable ML100K_ZIP names, or downloaded."""
    zip_file = os.environ.get("ML100K_ZIP")
    return load("ml-100k", from_file=Path(zip_file) if zip_file else None)


@contextmanager
def fitted(data: Interactions, preset: str, seed: int, **asked: Any) -> Iterator[Fitted]:
    """Fit a preset, a KIND or KIND:OBJECTIVE to all of the data, and export."""
    asked = {"kind": "random", "valid_fraction": 0.0, "seed": seed, **asked}
    if preset in PRESETS:
        settings = new_settings(read_preset(preset), asked)
    else:
        kind, _, objective = preset.partition(":")
        settings = new_settings(kind, asked | ({"objective": objective} if objective else {}))
    with tempfile.TemporaryDirectory() as folder:
        yield Fitted(data, settings, Path(folder))


def part_of(data: Interactions, rows: np.ndarray) -> Interactions:
    """The same users and items with these ratings alone."""
    return replace(
        data,
        user_index=data.user_index[rows],
        item_index=data.item_index[rows],
        ratings=data.ratings[rows],
        timestamps=None if data.timestamps is None else data.timestamps[rows],
    )


def pairs(data: Interactions, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """User and item indices, and ratings, of some rows."""
    return data.user_index[rows].astype(np.int64), data.item_index[rows].astype(np.int64), data.ratings[rows]


def numbered(rows: np.ndarray, index: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows sorted by their user or item, else in the given order; and each one's number there, from 0."""
    rows = rows[np.argsort(index[rows], kind="stable")]
    counts = np.bincount(index[rows])
    return rows, np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts)


def ranked(recipe: str, preset: str) -> Callable[[tuple[int, ...]], dict[str, Any]]:
    """Lists on MovieLens 100K, a quarter of the ratings held out by the recipe."""

    def run(seeds: tuple[int, ...]) -> dict[str, Any]:
        data, found = movielens_100k(), []
        for seed in seeds:
            sides = split(data, SplitRecipe(kind=recipe, valid_fraction=0.25, seed=seed))  # type: ignore[arg-type]
            users, items, _ = pairs(data, sides.valid)
            with fitted(part_of(data, sides.train), preset, seed) as model:
                found.append(model.lists(users, items) | {"wrong_ranks": model.list_errors()})
        return by_metric(found)

    return run


def folds(preset: str, **asked: Any) -> Callable[[tuple[int, ...]], dict[str, Any]]:
    """Ratings on MovieLens 100K's folds; the seeds are not used."""

    def run(seeds: tuple[int, ...]) -> dict[str, Any]:
        data, found = movielens_100k(), []
        for fold in range(1, 1 + len(seeds)):
            sides = split(data, SplitRecipe(kind="fold", fold=fold))
            with fitted(part_of(data, sides.train), preset, 42, **asked) as model:
                found.append(model.rmse(*pairs(data, sides.valid)))
        return by_metric(found)

    return run


def embedded(seeds: tuple[int, ...]) -> dict[str, Any]:
    """The embedded data set by the default preset and its own split."""
    data = load("ml-latest-small")
    sides = split(data, SplitRecipe())
    users, items, ratings = pairs(data, sides.valid)
    with fitted(part_of(data, sides.train), "default", 42) as model:
        found = model.lists(users, items) | model.rmse(users, items, ratings)
        return by_metric([found | {"wrong_ranks": model.list_errors()}])


def chronological(seeds: tuple[int, ...]) -> dict[str, Any]:
    """MovieLens 100K, the latest fifth held out."""
    data = movielens_100k()
    sides = split(data, SplitRecipe(kind="chronological"))
    users, items, ratings = pairs(data, sides.valid)
    with fitted(part_of(data, sides.train), "default", 42) as model:
        return by_metric([model.lists(users, items) | model.rmse(users, items, ratings)])


def new_users(seeds: tuple[int, ...]) -> dict[str, Any]:
    """A fifth of the users held out whole, four fifths of their items folded in, against retraining."""
    data, found = movielens_100k(), []
    for seed in seeds[:3]:
        sides = split(data, SplitRecipe(kind="by-user", seed=seed))
        given = sides.valid[np.random.default_rng(seed).random(len(sides.valid)) < 0.8]
        rest = np.setdiff1d(sides.valid, given)
        users, items, _ = pairs(data, rest)
        known = part_of(data, np.sort(np.concatenate([sides.train, given])))
        with fitted(known, "ml-100k-ranking", seed) as model:
            retrained = model.lists(users, items)["ndcg"]
        with fitted(part_of(data, sides.train), "ml-100k-ranking", seed) as model:
            folded = model.lists(users, items, folding_in(model, part_of(data, given)))["ndcg"]
        found.append({"ndcg": folded, "retrained": retrained, "of_retraining": folded / retrained})
    return by_metric(found)


def folding_in(model: Fitted, given: Interactions) -> Recommend:
    """Lists of users by fold-in of what they gave."""
    ids = model.recommender.items.ids

    def fold_in(user_index: np.ndarray, exclude: np.ndarray, k: int) -> np.ndarray:
        rows = [given.user_index == user for user in user_index]
        items = [ids.ids(given.item_index[some].astype(np.int64)).tolist() for some in rows]
        return model.recommender.fold_in(
            items, [given.ratings[some].tolist() for some in rows], k
        ).item_indices

    return fold_in


def listing(recommender: Recommender, index: np.ndarray) -> Recommend:
    """Lists of a bundle that numbers its items otherwise: `index` [n_items] has its number of each item."""
    back = np.zeros(1 + index.max(), np.int64)
    back[index] = np.arange(1, 1 + len(index))
    there = np.append(0, index)

    def recommend(user_index: np.ndarray, exclude: np.ndarray, k: int) -> np.ndarray:
        top = recommender.rank(user_index, k, exclude_seen=False, exclude_item_indices=list(there[exclude]))
        found: np.ndarray = back[top.indices]
        return found

    return recommend


def new_user_ratings(seeds: tuple[int, ...]) -> dict[str, Any]:
    """Ratings of held-out users who gave 1, 5 and 20, against the average user and retraining."""
    data = movielens_100k()
    return by_metric([_new_user_ratings(data, seed) for seed in seeds[:3]])


def _new_user_ratings(data: Interactions, seed: int) -> dict[str, float]:
    sides = split(data, SplitRecipe(kind="by-user", seed=seed))
    rng = np.random.default_rng(seed)
    order, number = numbered(rng.permutation(sides.valid), data.user_index)
    rest = order[number >= 20]
    figures: dict[str, float] = {}
    with fitted(part_of(data, sides.train), "ml-100k-ratings", seed) as model:
        loaded = load_run_inputs(model.folder / "run")
        fold_in = model.recommender.manifest.fold_in
        assert fold_in is not None
        session_feeds = model.recommender.run_graph
        items64 = loaded.arrays.item_factors.astype(np.float64)
        biases = model.recommender.bundle.table("item_biases")[:, 0]
        average = model.recommender.score_indices(
            np.zeros(len(rest), np.int64), data.item_index[rest].astype(np.int64)
        )
        figures["average_user"] = float(np.sqrt(np.mean((average - data.ratings[rest]) ** 2)))
        for n in (1, 5, 20):
            errors = []
            for user in np.unique(data.user_index[rest]):
                mine = order[data.user_index[order] == user]
                given, hidden = mine[:n], mine[20:]
                row = session_feeds(
                    "fold_in",
                    {
                        "item_indices": data.item_index[given].astype(np.int64)[None],
                        "ratings": data.ratings[given][None],
                    },
                )["user_factors"][0]
                places = data.item_index[hidden]
                errors.append(items64[places] @ row + biases[places] - data.ratings[hidden])
            figures[f"given_{n}"] = float(np.sqrt(np.mean(np.concatenate(errors) ** 2)))
    for n in (1, 5, 20):
        known = np.sort(np.concatenate([sides.train, order[number < n]]))
        with fitted(part_of(data, known), "ml-100k-ratings", seed) as model:
            figures[f"retrained_{n}"] = model.rmse(*pairs(data, rest))["rmse"]
    return figures


def new_items(seeds: tuple[int, ...]) -> dict[str, Any]:
    """Items held out whole; 5, 10 and 20 of their ratings added by add-items, against retraining.

    RMSE of their other ratings; nDCG of the users who gave these, over them and a fifth of all others.
    """
    data, seed = movielens_100k(), seeds[0]
    rng = np.random.default_rng(seed)
    counts = np.bincount(data.item_index, minlength=data.n_items + 1)
    # Of those with 40 ratings or more, so that at least 20 remain to measure with.
    chosen = np.sort(rng.permutation(np.flatnonzero(counts >= 40))[:100])
    is_new = np.isin(data.item_index, chosen)
    figures: dict[str, float] = {}
    order, number = numbered(rng.permutation(np.flatnonzero(is_new)), data.item_index)
    rest = order[number >= 20]
    users, items, ratings = pairs(data, rest)
    old, hidden = np.split(rng.permutation(np.flatnonzero(~is_new)), [int(0.8 * (~is_new).sum())])
    old, hidden = np.sort(old), hidden[np.isin(data.user_index[hidden], users)]
    wanted = pairs(data, np.append(rest, hidden))[:2]
    kept = np.setdiff1d(np.arange(1, 1 + data.n_items), chosen)  # the catalogue before
    place = np.zeros(data.n_items + 1, np.int64)
    place[kept] = np.arange(1, 1 + len(kept))
    before = replace(
        part_of(data, old),
        items=data.items.iloc[kept - 1].reset_index(drop=True),
        item_index=place[data.item_index[old]].astype(np.int32),
    )
    with fitted(before, "ml-100k-ranking", seed) as model:
        for n in (5, 10, 20):
            given = order[number < n]
            add_items(model.folder / "bundle", part_of(data, given), model.folder / f"added{n}")
            recommender = Recommender.load(model.folder / f"added{n}", "cpu")
            index = recommender.items.ids.lookup(data.items["item_id"].to_numpy())
            scores = recommender.score_indices(users, index[items - 1])
            figures[f"rmse_{n}"] = float(np.sqrt(np.mean((scores - ratings) ** 2)))
            known = part_of(data, np.sort(np.concatenate([old, given])))
            with fitted(known, "ml-100k-ranking", seed) as again:
                figures[f"retrained_rmse_{n}"] = again.rmse(users, items, ratings)["rmse"]
                retrained = again.lists(*wanted)["ndcg"]
                added = again.lists(*wanted, listing(recommender, index))["ndcg"]
            figures[f"ndcg_{n}"], figures[f"ndcg_of_retraining_{n}"] = added, added / retrained
    return by_metric([figures])


def by_metric(found: list[dict[str, float]]) -> dict[str, Any]:
    """Values of each metric, in the order of the runs."""
    return {name: [one[name] for one in found] for name in found[0]}
