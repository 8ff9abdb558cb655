"""Measure a bundle through onnxruntime. Needs no torch, and none of what export needs."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pyarrow.parquet as pq

from recsys.data.interactions import Interactions
from recsys.data.splits import SplitRecipe, split
from recsys.errors import ConfigError, DataError
from recsys.evaluation.evaluate import DEFAULT_K, evaluate
from serve.errors import BundleError
from serve.runtime.recommender import Recommender


def evaluate_bundle(
    recommender: Recommender, interactions: Interactions, k: int = DEFAULT_K
) -> dict[str, Any]:
    """Split the data by the bundle's own recipe and measure; the result is `recsys.evaluation.evaluate`'s.

    Raises:
        DataError: not the data that the bundle was trained on.
        BundleError: the split recipe is invalid.
        ConfigError: k is larger than the bundle's lists.
    """
    check_data(recommender, interactions)
    longest = recommender.largest_k("recommend")
    if k > longest:
        raise ConfigError(f"k is {k}, and this bundle ranks {longest} items at most: take a smaller k")
    try:
        recipe = msgspec.convert(recommender.manifest.split, SplitRecipe)
    except msgspec.ValidationError as error:
        raise BundleError(f"{recommender.bundle.path}: its split recipe is invalid: {error}") from None

    def recommend(user_index: np.ndarray, exclude_item_indices: np.ndarray, k: int) -> np.ndarray:
        top = recommender.rank(
            user_index, k, exclude_seen=False, exclude_item_indices=list(exclude_item_indices)
        )
        return top.indices

    score = recommender.score_indices if recommender.predicts_ratings else None
    return evaluate(interactions, split(interactions, recipe), score, recommend, k)


def check_data(recommender: Recommender, interactions: Interactions) -> None:
    """Check that the data is what the bundle was trained on, index by index.

    Raises:
        DataError: another checksum, item key or number of ratings, other ids, or other ratings from the same
            file (another column, another choice among duplicates).
    """
    manifest = recommender.manifest
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
    seen = pq.read_table(recommender.bundle.file("seen.parquet"))
    order = np.lexsort((interactions.item_index, interactions.user_index))
    columns = {
        "user_index": interactions.user_index,
        "item_index": interactions.item_index,
        "rating": interactions.ratings,
        "timestamp": interactions.timestamps,
    }
    for name, values in columns.items():
        there = seen[name].to_numpy() if name in seen.column_names else None
        here = None if values is None else values[order]
        same = there is None if here is None else there is not None and np.array_equal(there, here)
        if not same:
            raise DataError(
                f"{interactions.name} as it is read now has other {name}s than the bundle was trained on: "
                f"read it as it was read for training (columns, --duplicates)."
            )
