"""`items.parquet` and `seen.parquet` of a bundle, with new rows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

from export.add_items.new_ratings import NewRatings
from export.model.inputs import SeenRatings
from recsys.data.features import binary_features
from serve.bundle.bundle import Bundle
from serve.bundle.ids import EXTRA_TYPES, items_table, write_items
from serve.bundle.parquet import numbers
from serve.bundle.seen import seen_table, write_seen


def write_more_items(folder: Path, bundle: Bundle, items: pd.DataFrame) -> None:
    """Write `items.parquet` with new items after those that `bundle` has.

    `items` has `item_id` and, where known, `title`, `genres` and `year`.
    """
    table = items_table(bundle.file("items.parquet"))
    old = table.read(table.columns)
    columns = {}
    for name in ("item_id", *EXTRA_TYPES):
        before = old[name] if name in old else pa.nulls(table.n_rows, EXTRA_TYPES[name])
        new = items[name] if name in items else pd.Series([None] * len(items))
        columns[name] = pa.concat_arrays([before, pa.Array.from_pandas(new, type=before.type)])
    known = {name: None if column.null_count == len(column) else column for name, column in columns.items()}
    write_items(
        folder / "items.parquet",
        columns["item_id"],
        titles=known["title"],
        genres=known["genres"],
        years=known["year"],
    )


def all_features(bundle: Bundle, items: pd.DataFrame) -> np.ndarray:
    """Binary features of a bundle's items, then of new `items`: float32 [n_items + n_new, A]."""
    table = items_table(bundle.file("items.parquet"))
    known = [name for name in ("genres", "year") if name in table.columns and name in items]
    old = pd.DataFrame({name: column.to_pandas() for name, column in table.read(known).items()})
    both = pd.concat([old.reindex(range(table.n_rows)), items[known]], ignore_index=True)
    return binary_features(both)


def write_more_seen(folder: Path, bundle: Bundle, new: NewRatings) -> SeenRatings:
    """Write `seen.parquet` with new ratings among those that `bundle` has; returns all of them.

    Where new ratings have no times, they get the latest of the bundle's; where the bundle has none, no rating
    has one.
    """
    table = seen_table(bundle.file("seen.parquet"))
    old = {name: numbers(column) for name, column in table.read(table.columns).items()}
    timestamps = None
    if "timestamp" in old:
        latest = np.full(len(new.item), old["timestamp"].max(initial=0))
        timestamps = np.append(old["timestamp"], latest if new.timestamps is None else new.timestamps)
    users = np.append(old["user_index"], new.user_index)
    items = np.append(old["item_index"], bundle.manifest.model.n_items + 1 + new.item)
    ratings = np.append(old["rating"], new.ratings)
    write_seen(folder / "seen.parquet", users, items, ratings, timestamps)
    return SeenRatings.of(users, items, ratings)
