"""What others hand over, checked: tables, ids, items, and what users have seen."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from export.errors import TableError
from export.model.arrays import Float32
from recsys.data.frames import TableSource, checksum, load_frame
from recsys.data.interactions import Interactions
from recsys.data.items import YEARS, catalogue, series
from recsys.data.refusals import as_data_errors
from serve.reading.columns import find_columns
from serve.reading.numbers import as_numbers
from serve.reading.rows import joined

DESCRIBED = ("title", "genres", "year")


def plain(values: Any) -> Any:
    """A torch tensor or a matrix on a GPU as an array of numpy; anything else as it is."""
    if hasattr(values, "detach"):
        values = values.detach().cpu()
    return values.to_numpy() if hasattr(values, "to_numpy") else values


def factors(name: str, values: Any) -> Float32:
    """A table of factors: float32 [n, F].

    Raises:
        TableError: other numbers of axes, an empty table, or values that are not finite numbers.
    """
    array = np.asarray(plain(values))
    if array.ndim != 2 or not array.size:
        raise TableError(f"{name} must be a table [rows, factors], got the shape {list(array.shape)}")
    return _finite(name, array)


def biases(name: str, values: Any, n: int) -> Float32:
    """Biases of `n` rows, [n] or [n, 1]: float32 [n].

    Raises:
        TableError: another number of them, or values that are not finite numbers.
    """
    array = np.asarray(plain(values))
    if array.shape not in ((n,), (n, 1)):
        raise TableError(f"{name} must have one value for each of {n} rows, got {list(array.shape)}")
    return _finite(name, array.reshape(n))


def _finite(name: str, array: np.ndarray) -> Float32:
    if array.dtype.kind not in "fiub":
        raise TableError(f"{name} must be numbers, got {array.dtype}")
    with np.errstate(over="ignore"):
        table: Float32 = np.ascontiguousarray(array, np.float32)
    wrong = np.argwhere(~np.isfinite(table))
    if len(wrong):
        place = tuple(wrong[0].tolist())
        found = f"{len(wrong)} values that are no finite float32, the first {array[place]}"
        raise TableError(f"{name} has {found} at {list(place)}")
    return table


def ids(name: str, values: Any, n: int) -> pd.Series:
    """`n` ids, int64 or str; None: the numbers of the rows, from 0.

    Raises:
        TableError: another number of ids, ids of another type, missing or repeated ones.
    """
    if values is None:
        return pd.Series(np.arange(n), dtype="int64")
    try:
        column = pa.array(plain(values), from_pandas=True)
    except (pa.ArrowException, TypeError, ValueError) as error:
        raise TableError(f"{name} can't be read as ids: {error}") from None
    column = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if pa.types.is_integer(column.type):
        column = column.cast(pa.int64())
    elif pa.types.is_large_string(column.type) or pa.types.is_string_view(column.type):
        column = column.cast(pa.string())
    if column.type not in (pa.int64(), pa.string()) or column.null_count:
        raise TableError(f"{name} must be integers or strings, none missing, got {column.type}")
    if len(column) != n:
        raise TableError(f"{name} has {len(column)} ids for {n} rows")
    found = series(column)
    if found.duplicated().any():
        raise TableError(f"{name} has {found[found.duplicated()].iloc[:1].item()!r} more than once")
    return found


def described(item_ids: pd.Series, items: Any) -> pd.DataFrame:
    """The items in the order of the ids, with the titles, genres, years and numbers that `items` knows.

    Args:
        item_ids: of the rows of the table of items.
        items: a table as for `recsys.fit`, in any order; None: nothing is known.

    Raises:
        DataError: it has no column of ids, or repeated ids.
        TableError: it has none of the ids.
    """
    table = pd.DataFrame({"item_id": item_ids})
    if items is None:
        return table
    source = TableSource(items, "items")
    with as_data_errors():
        known = catalogue(source)
    numbers = _numbers(source)
    rows = pd.Index(known["item_id"]).get_indexer(item_ids)
    if (rows < 0).all():
        theirs, own = known["item_id"].iloc[:1].item(), item_ids.iloc[:1].item()
        raise TableError(
            f"items has no row for any of the ids: its ids are like {theirs!r}, the model's like {own!r}"
        )
    found = known[list(DESCRIBED)].assign(**numbers).reindex(rows).reset_index(drop=True)
    return pd.concat([table, found], axis="columns").dropna(axis="columns", how="all")


def _numbers(source: TableSource) -> dict[str, np.ndarray]:
    """The columns of numbers beside ids and years, for rules: float64 [n], NaN where one is missing."""
    names = source.schema.names
    described = {*find_columns(names, {"item": None}, source.name).values(), *YEARS, *DESCRIBED}
    (rows,) = source.read([name for name in names if name not in described and names.count(name) == 1])
    columns = {name: joined(rows.table[name]) for name in rows.table.column_names}
    return {
        name: as_numbers(column, pa.float64()).to_numpy(zero_copy_only=False)
        for name, column in columns.items()
        if pa.types.is_integer(column.type) or pa.types.is_floating(column.type)
    }


def interactions(
    users: pd.Series, items: pd.DataFrame, seen: Any, *, name: str, licence: str
) -> Interactions:
    """What users have seen or rated, as indices.

    Args:
        users: user ids.
        items: as `described` gives them.
        seen: a table with a row for each pair, as `recsys.fit` takes it; a sparse matrix of scipy, [n_users,
            n_items], rows and columns in the order of the tables; or None.
        name: of the data.
        licence: likewise.

    Raises:
        DataError: the table can't be read, or has a pair twice.
        TableError: ids that are not among the model's, or a matrix of another shape.
    """
    implicit, timestamps = True, None
    user_index = item_index = np.empty(0, np.int32)
    ratings = np.empty(0, np.float32)
    if hasattr(seen, "tocoo"):
        wanted = (len(users), len(items))
        if seen.shape != wanted:
            raise TableError(f"seen is {list(seen.shape)}, and the tables are of {wanted} users and items")
        matrix = seen.tocsr().copy()
        matrix.sum_duplicates()
        matrix = matrix.tocoo()
        user_index, item_index = (np.asarray(axis, np.int32) + 1 for axis in (matrix.row, matrix.col))
        ratings = _finite("seen", np.asarray(matrix.data)) if matrix.nnz else ratings
        implicit = len(np.unique(ratings)) < 2
    elif seen is not None:
        found = load_frame(seen, name="seen")
        user_index = _places("user", found.users["user_id"], users)[found.user_index - 1]
        item_index = _places("item", found.items["item_id"], items["item_id"])[found.item_index - 1]
        ratings, timestamps, implicit = found.ratings, found.timestamps, found.implicit
    if implicit:
        ratings = np.ones_like(ratings)
    data = Interactions(
        name=name,
        sha256="",
        licence=licence,
        item_key="id",
        users=pd.DataFrame({"user_id": users}),
        items=items,
        user_index=user_index,
        item_index=item_index,
        ratings=ratings,
        timestamps=timestamps,
        implicit=implicit,
    )
    return replace(data, sha256=checksum(data))


def _places(whose: str, found: pd.Series, known: pd.Series) -> np.ndarray:
    """The indices of ids among those of the model: int32 [n], from 1."""
    places = pd.Index(known).get_indexer(found)
    if (places < 0).any():
        first, own = found[places < 0].iloc[:1].item(), known.iloc[:1].item()
        raise TableError(
            f"seen has {np.count_nonzero(places < 0)} {whose}s that the model lacks, such as {first!r}; its "
            f"own are like {own!r}. Leave their rows out, or give {whose}_ids."
        )
    index: np.ndarray = (places + 1).astype(np.int32)
    return index


def span(low_high: Any, name: str) -> tuple[float, float]:
    """A range of two finite numbers, the lower first. Raises TableError: it is none."""
    try:
        low, high = (float(value) for value in low_high)
    except (TypeError, ValueError):
        low = high = np.nan
    if not -np.inf < low < high < np.inf:
        raise TableError(f"{name} must be two numbers, the lower first, got {low_high!r}")
    return low, high
