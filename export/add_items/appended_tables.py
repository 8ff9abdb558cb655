"""`items.parquet` and `seen.parquet` of a bundle, with new rows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

from export.add_items.new_ratings import NewRatings
from export.model.inputs import SeenRatings
from serve.bundle.bundle import Bundle
from serve.bundle.ids import ID_TYPES, write_items
from serve.bundle.parquet import ParquetTable, numbers
from serve.bundle.seen import seen_table, write_seen


def write_more_items(folder: Path, bundle: Bundle, items: pd.DataFrame) -> None:
    """Write `items.parquet` with new items after those that `bundle` has.

    Args:
        folder: where to.
        bundle: what to start from.
        items: `item_id`, and where known `title`, `genres`, `year`.
    """
    extra = {"title": pa.string(), "genres": pa.string(), "year": pa.int32()}
    types = {"item_id": ID_TYPES} | {name: [kind] for name, kind in extra.items()}
    table = ParquetTable(bundle.file("items.parquet"), types, optional=list(extra))
    old = table.read(table.columns)
    columns = {}
    for name in ("item_id", *extra):
        before = old[name] if name in old else pa.nulls(table.n_rows, extra[name])
        if name in items:
            after = pa.Array.from_pandas(items[name], type=before.type)
        else:
            after = pa.nulls(len(items), before.type)
        columns[name] = pa.concat_arrays([before, after])
    known = {name: None if column.null_count == len(column) else column for name, column in columns.items()}
    write_items(
        folder / "items.parquet",
        columns["item_id"],
        titles=known["title"],
        genres=known["genres"],
        years=known["year"],
    )


def write_more_seen(folder: Path, bundle: Bundle, new: NewRatings) -> SeenRatings:
    """Write `seen.parquet` with new ratings among those that `bundle` has; returns all of them.

    The time of a new rating where none is given is that of the bundle's latest; times are left out where the
    bundle has none of its own.
    """
    table = seen_table(bundle.file("seen.parquet"))
    old = {name: numbers(column) for name, column in table.read(table.columns).items()}
    item_index = bundle.manifest.model.n_items + 1 + new.item
    timestamps = None
    if "timestamp" in old:
        latest = old["timestamp"].max(initial=0)
        given = np.full(len(new.item), latest) if new.timestamps is None else new.timestamps
        timestamps = np.concatenate([old["timestamp"], given])
    users = np.concatenate([old["user_index"].astype(np.int64), new.user_index])
    items = np.concatenate([old["item_index"].astype(np.int64), item_index])
    ratings = np.concatenate([old["rating"], new.ratings])
    write_seen(folder / "seen.parquet", users, items, ratings, timestamps)
    return SeenRatings.of(users, items, ratings)
