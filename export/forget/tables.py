"""The tables of a bundle without some of its users: their rows, and the counts of their ratings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from export.add_items.bundle_inputs import Fitted, ItemCounts, rule_numbers
from export.add_items.bundle_ranking import bundle_ranking
from export.model.arrays import Float32, Int64
from export.model.inputs import SeenRatings
from export.model.mlp import MlpArrays
from export.model.product_module import product_module
from export.model.side_by_side import SideBySide
from export.model.similar_items import support
from export.write.list_ridge_choice import with_list_ridges
from export.write.run_inputs import module_arrays
from recsys.models import build, config_from_dict
from recsys.models.modules import Biases, DotProduct
from recsys.models.tables import USER_TABLES
from serve.bundle.bundle import Bundle
from serve.bundle.parquet import numbers
from serve.bundle.seen import seen_table, write_seen
from serve.errors import RequestError


class Counts(NamedTuple):
    """Ratings of each item in `seen.parquet`, int64 [n_items + 1]: all, and those of users who stay."""

    before: Int64
    after: Int64

    def left_of(self, n_ratings: Int64) -> Int64:
        """Numbers of training ratings, int64 [n_items + 1], reduced in the same proportion.

        What was held out of the training is not marked, so the share of the forgotten users in it is not
        known; where nothing was held out, this is exact.
        """
        shares = np.where(self.before > 0, self.after / np.maximum(self.before, 1), 1.0)
        return np.rint(n_ratings * shares).astype(np.int64)


def write_left_seen(folder: Path, bundle: Bundle, forgotten: Int64) -> tuple[SeenRatings, Counts]:
    """Write `seen.parquet` without the ratings of `forgotten` users, if the bundle holds any ratings."""
    n_items = bundle.manifest.model.n_items
    if bundle.manifest.without_seen:
        nothing, equal = np.zeros(0, np.int64), np.zeros(n_items + 1, np.int64)
        return SeenRatings(nothing, nothing, np.zeros(0, np.float32)), Counts(equal, equal)
    table = seen_table(bundle.file("seen.parquet"))
    columns = {name: numbers(column) for name, column in table.read(table.columns).items()}
    stays = ~np.isin(columns["user_index"], forgotten)
    left = {name: column[stays] for name, column in columns.items()}
    given = left["user_index"], left["item_index"], left["rating"]
    write_seen(folder / "seen.parquet", *given, left.get("timestamp"))
    counts = (np.bincount(one["item_index"], minlength=n_items + 1) for one in (columns, left))
    return SeenRatings.of(*given), Counts(*counts)


def item_counts(bundle: Bundle, counts: Counts) -> ItemCounts:
    """The numbers of ratings in the graphs, without those of the forgotten users."""
    similar = bundle.manifest.similar_items
    assert similar is not None  # every export has it
    of_items = bundle.table("item_support")[:, 0]
    if similar.shrinkage:
        old = support_ratings(of_items, similar.shrinkage)
        new = counts.left_of(old)
        of_items = np.where(new == old, of_items, support(new, similar.shrinkage))
    n_ratings = None
    if bundle.manifest.item_rules is not None:
        n_ratings = counts.left_of(bundle.table("item_n_ratings")[0].astype(np.int64))
    return ItemCounts(of_items, n_ratings, rule_numbers(bundle))


def support_ratings(of_items: Float32, shrinkage: float) -> Int64:
    """The numbers of ratings that `support` was made from; 0 where it is 0."""
    exact = of_items.astype(np.float64)
    return np.rint(shrinkage * exact / (1 - exact)).astype(np.int64)


def fitted_without(bundle: Bundle, forgotten: Int64, counts: Counts) -> Fitted:
    """The model of a bundle without some users, whose rows become row 0, the average of the others.

    Raises RequestError: nobody would be left that training has given a row.
    """
    manifest = bundle.manifest
    model = manifest.model
    held = {table.name for table in manifest.tables if "score" in table.graphs}
    module: torch.nn.Module
    if model.kind == "mlp":
        module = build("mlp", config_from_dict("mlp", model.config), model.n_users, model.n_items)
        module.y_range = model.score_range  # type: ignore[assignment]
    else:
        biases: Biases = "both" if "user_biases" in held else "items" if "item_biases" in held else "none"
        module = DotProduct(model.n_users, model.n_items, model.n_factors, model.score_range, biases=biases)
    names = [name for name in module.state_dict() if not name.endswith("num_batches_tracked")]
    state = {name: bundle.table(name) for name in names}
    of_users = [name for name in USER_TABLES if name in state]
    state |= zip(of_users, rows_without([state[name] for name in of_users], forgotten), strict=True)
    module.load_state_dict({name: torch.from_numpy(state[name].copy()) for name in names}, strict=False)
    arrays = module_arrays(module.eval(), model.score_range)
    if isinstance(arrays, MlpArrays) and manifest.fold_in is not None:
        arrays = arrays.with_fitted_map(bundle.table("fold_in_map"), manifest.fold_in.prior_ratings)
    if model.ranking is None:
        return Fitted(module, arrays, None, None)
    ranking = _ranking_without(bundle, forgotten, counts)
    return Fitted(module, arrays, product_module(ranking.without_popularity), ranking)


def rows_without(tables: Sequence[Float32], forgotten: Int64) -> list[Float32]:
    """Tables of users [n_users + 1, …], with the average of the others in row 0 and the forgotten rows.

    Rows that are row 0 had no training rating, and stay it.

    Raises RequestError: no other row would be left.
    """
    trained = np.any([(table != table[0]).any(axis=1) for table in tables], axis=0)
    trained[forgotten] = False
    if not trained.any():
        raise RequestError("nobody who was in the training would be left. Train again, without these users.")
    found = []
    for table in tables:
        rows = table.copy()
        rows[~trained] = table[trained].mean(axis=0, dtype=np.float64)
        found.append(rows)
    return found


def _ranking_without(bundle: Bundle, forgotten: Int64, counts: Counts) -> SideBySide:
    ranking = bundle_ranking(bundle)
    (users,) = rows_without([ranking.dot.user_factors], forgotten)
    items, popularity = _popularity(ranking, counts)
    # Their offsets hold the average user's row.
    settings = bundle.manifest.list_fold_in
    ridges = settings.ridges if settings is not None else {}
    parts = tuple(replace(part, solver=None) if part.kind in ridges else part for part in ranking.parts)
    dot = replace(ranking.dot, user_factors=users, item_factors=items)
    return with_list_ridges(SideBySide(dot, parts, popularity), ridges)


def _popularity(ranking: SideBySide, counts: Counts) -> tuple[Float32, tuple[float, float]]:
    """The items' table with the popularity that the ratings of the users who stay give, and m and s of it."""
    items, (mean, scale) = ranking.dot.item_factors, ranking.popularity
    if not scale:
        return items, (mean, scale)
    old = np.rint(np.expm1(items[:, -1].astype(np.float64) / scale + mean)).astype(np.int64)
    old[0] = 0
    logs, new_logs = np.log1p(old), np.log1p(counts.left_of(old))
    if (logs == new_logs).all():
        return items, (mean, scale)
    scale *= _spread(logs) / _spread(new_logs)
    mean = float(new_logs[1:].mean())
    items = items.copy()
    items[1:, -1] = scale * (new_logs[1:] - mean)
    return items, (mean, scale)


def _spread(logs: npt.NDArray[np.float64]) -> float:
    return float(logs[1:].std()) or 1.0
