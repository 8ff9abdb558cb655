"""Ids outside, indices inside: the two tables that say which is which, and the look-up in both directions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from serve.parquet import write_columns


def write_users(path: Path, user_ids: np.ndarray | Sequence[Any]) -> None:
    """Write `users.parquet`: `user_id` in index order, row 1 first.

    Args:
        path: The file to make.
        user_ids: int64 or str [n_users], each once.

    Raises:
        ValueError: an id twice, an empty list, or ids that are neither int64 nor str.
    """
    write_columns(path, {"user_id": _id_column("user_id", user_ids)})


def write_items(
    path: Path,
    item_ids: np.ndarray | Sequence[Any],
    *,
    titles: Sequence[str | None] | None = None,
    genres: Sequence[str | None] | None = None,
    years: Sequence[int | None] | None = None,
) -> None:
    """Write `items.parquet`: `item_id` in index order, row 1 first, and what the data knows of items.

    Args:
        path: The file to make.
        item_ids: int64 or str [n_items], each once.
        titles: str [n_items], None where unknown.
        genres: str [n_items], "|" between two genres, None where unknown.
        years: int [n_items], None where unknown. A pandas column will do for each of these.

    Raises:
        ValueError: an id twice, an empty list, ids that are neither int64 nor str, or lengths that differ.
    """
    columns = {"item_id": _id_column("item_id", item_ids)}
    extra = {"title": (titles, pa.string()), "genres": (genres, pa.string()), "year": (years, pa.int32())}
    for name, (values, kind) in extra.items():
        if values is not None:
            columns[name] = _array(values, kind)
            if len(columns[name]) != len(columns["item_id"]):
                raise ValueError(f"{len(columns[name])} {name} values for {len(columns['item_id'])} items")
    write_columns(path, columns)


def _id_column(name: str, ids: np.ndarray | Sequence[Any]) -> pa.Array:
    column = _array(ids)
    if pa.types.is_integer(column.type):
        column = column.cast(pa.int64())
    elif pa.types.is_large_string(column.type):
        column = column.cast(pa.string())
    if column.type not in (pa.int64(), pa.string()):
        raise ValueError(f"{name} must be int64 or str, not {column.type}")
    if not len(column) or column.null_count:
        raise ValueError(f"{name}: {len(column)} ids, {column.null_count} of them missing")
    if len(column.unique()) != len(column):
        raise ValueError(f"{name}: {len(column) - len(column.unique())} ids are there more than once")
    return column


def _array(values: Any, kind: pa.DataType | None = None) -> pa.Array:
    column = pa.array(values, type=kind, from_pandas=True)
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
