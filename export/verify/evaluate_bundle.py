"""Measure a bundle through onnxruntime. Needs no torch, and none of what export needs."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np

from export.verify.new_users import NewUsers
from recsys.data.interactions import Interactions
from recsys.data.splits import GIVEN_SHARE, Split, SplitRecipe, choosing_users, give_share, split
from recsys.data.valid_data import with_valid_data
from recsys.errors import ConfigError, DataError
from recsys.evaluation.evaluate import DEFAULT_K, evaluate
from serve.bundle.parquet import numbers
from serve.bundle.seen import seen_table
from serve.errors import BundleError
from serve.runtime.recommender import Recommender


def evaluate_bundle(
    recommender: Recommender,
    interactions: Interactions,
    k: int | None = None,
    *,
    valid: Interactions | None = None,
    given_share: float = GIVEN_SHARE,
) -> dict[str, Any]:
    """Split the data by the bundle's own recipe and measure, as `measure` does.

    `valid` are the held-out ratings, where the recipe is "valid-data".

    Raises:
        DataError: not the data that the bundle was trained on, or not the held-out ratings.
        BundleError: the split recipe is invalid.
        ConfigError: k is larger than the bundle's lists; or `valid` is missing, or there without need.
    """
    try:
        recipe = msgspec.convert(recommender.manifest.split, SplitRecipe)
    except (msgspec.ValidationError, ConfigError) as error:
        raise BundleError(f"{recommender.bundle.path}: its split recipe is invalid: {error}") from None
    if (recipe.kind == "valid-data") != (valid is not None):
        raise ConfigError(f"the bundle's split is {recipe.kind!r}: --valid-data goes with 'valid-data' alone")
    if valid is None:
        check_data(recommender, interactions)
        return measure(recommender, interactions, split(interactions, recipe), k, given_share)
    if valid.sha256 != recipe.valid_data:
        raise DataError(
            f"{valid.name} is not the file that was held out of the bundle's training: its SHA-256 is "
            f"{valid.sha256}, and was {recipe.valid_data}"
        )
    interactions, sides = with_valid_data(interactions, valid)
    check_data(recommender, interactions)
    return measure(recommender, interactions, sides, k, given_share)


def measure(
    recommender: Recommender,
    interactions: Interactions,
    sides: Split,
    k: int | None = None,
    given_share: float = GIVEN_SHARE,
) -> dict[str, Any]:
    """Measure on the held-out ratings; the result is `recsys.evaluation.evaluate`'s. `k` is by default 10, or
    all that the bundle ranks.

    Of a split by user, the held-out users are folded in from a share of their ratings and measured by the
    rest (strong generalisation), if the bundle can fold in; `new_users` in the result then has their number
    and the share. Users who chose the settings of the fold-in are left out. The baselines know the given
    ratings, too.

    Raises:
        ConfigError: k is larger than the bundle's lists.
    """
    by_user = recommender.manifest.split.get("kind") == "by-user" and len(sides.valid) > 0
    folds_in = by_user and "fold_in" in recommender.manifest.graphs
    longest = recommender.largest_k("fold_in" if folds_in else "recommend")
    k = min(DEFAULT_K, longest) if k is None else k
    if k > longest:
        raise ConfigError(f"k is {k}, and this bundle ranks {longest} items at most: take a smaller k")
    if folds_in:
        choosing = np.isin(interactions.user_index, choosing_users(interactions.user_index[sides.valid]))
        sides = Split(sides.train, sides.valid[~choosing[sides.valid]])
        sides = give_share(interactions, sides, given_share)
        n_users = len(np.unique(interactions.user_index[sides.valid]))
        new_users = NewUsers(recommender, interactions, sides)
        score = new_users.score if new_users.predict_ratings else None
        result = evaluate(interactions, sides, score, new_users.recommend, k)
        return result | {"new_users": {"n_users": n_users, "given_share": given_share}}

    def recommend(user_index: np.ndarray, exclude_item_indices: np.ndarray, k: int) -> np.ndarray:
        exclude = list(exclude_item_indices)
        return recommender.rank(user_index, k, exclude_seen=False, exclude_item_indices=exclude).indices

    score = recommender.score_indices if recommender.predicts_ratings else None
    return evaluate(interactions, sides, score, recommend, k)


def check_data(recommender: Recommender, interactions: Interactions) -> None:
    """Check that the data is what the bundle was trained on, index by index.

    Raises:
        DataError: another checksum, item key or number of ratings, other ids, or other ratings from the same
            file (another column, another choice among duplicates).
    """
    manifest = recommender.manifest
    if manifest.forgotten:
        raise DataError(
            f"{manifest.n_forgotten} users were taken out of this bundle, and the data has them: measure the "
            f"bundle that it was made from, or its run"
        )
    wanted = (manifest.data.sha256, manifest.data.item_key, manifest.data.n_ratings)
    found = (interactions.sha256, interactions.item_key, len(interactions))
    if found != wanted:
        raise DataError(
            f"the bundle was trained on {manifest.data.name}, and {interactions.name} as it is read now is "
            f"not the same: (SHA-256, item key, ratings) {wanted} there, {found} here. Name the right "
            f"data with --data, and read it as it was read for training."
        )
    for ids, column in (
        (recommender.users, interactions.users["user_id"]),
        (recommender.items.ids, interactions.items["item_id"]),
    ):
        expected = np.arange(1, 1 + len(ids))
        if len(ids) != len(column) or not np.array_equal(ids.lookup(column.to_numpy()), expected):
            raise DataError(f"{interactions.name} has other {ids.name}s than the bundle, or in another order")
    if manifest.without_seen:
        return  # the checksum alone tells
    table = seen_table(recommender.bundle.file("seen.parquet"))
    seen = table.read(table.columns)
    order = np.lexsort((interactions.item_index, interactions.user_index))
    columns = {
        "user_index": interactions.user_index,
        "item_index": interactions.item_index,
        "rating": interactions.ratings,
        "timestamp": interactions.timestamps,
    }
    for name, values in columns.items():
        there = numbers(seen[name]) if name in seen else None
        here = None if values is None else values[order]
        same = there is None if here is None else there is not None and np.array_equal(there, here)
        if not same:
            raise DataError(
                f"{interactions.name} as it is read now has other {name}s than the bundle was trained on: "
                f"read it as it was read for training (columns, --duplicates)."
            )
