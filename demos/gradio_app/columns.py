"""Look-ups that read whole columns of a bundle: the items of a genre, and the users who rated an item."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from serve import Bundle
from serve.bundle.ids import ID_TYPES
from serve.bundle.parquet import ParquetTable, numbers


def items_by_genre(bundle: Bundle) -> dict[str, np.ndarray]:
    """The indices of each genre's items (int64, rising), by name; empty where the data has no genres.

    Names in brackets, such as MovieLens' "(no genres listed)", are not genres.
    """
    types = {"item_id": ID_TYPES, "genres": [pa.string()]}
    table = ParquetTable(bundle.file("items.parquet"), types, optional=["genres"], nullable=["genres"])
    if "genres" not in table.columns:
        return {}
    lists = pc.split_pattern(table.read(["genres"])["genres"], "|")
    names, rows = pc.list_flatten(lists), pc.list_parent_indices(lists)
    genres = sorted(name for name in names.unique().to_pylist() if name and not name.startswith("("))
    return {name: 1 + numbers(rows.filter(pc.equal(names, name))) for name in genres}


def raters(bundle: Bundle, item_indices: Sequence[int]) -> dict[int, np.ndarray]:
    """The users who have rated each of these items: user indices, int32, rising.

    Reads all of `seen.parquet`, a row group at a time: it is sorted by user, and an index by item would take
    as much memory as the file. Nobody, where the bundle does not hold what users have rated.
    """
    if bundle.manifest.without_seen:
        return {index: np.empty(0, np.int32) for index in item_indices}
    types = {"user_index": [pa.int32()], "item_index": [pa.int32()]}
    table = ParquetTable(bundle.file("seen.parquet"), types)
    wanted = np.unique(np.asarray(item_indices, np.int32))
    users, items = [np.empty(0, np.int32)], [np.empty(0, np.int32)]
    for group in range(table.n_row_groups):
        columns = table.read(list(types), group)
        item = numbers(columns["item_index"])
        rows = np.isin(item, wanted)
        users.append(numbers(columns["user_index"])[rows])
        items.append(item[rows])
    user, item = np.concatenate(users), np.concatenate(items)
    return {index: user[item == index] for index in wanted.tolist()}
