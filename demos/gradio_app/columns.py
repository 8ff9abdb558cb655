"""Whole columns of a bundle that the page looks through: user ids, genres, who has rated what."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from serve.bundle.bundle import Bundle
from serve.bundle.ids import ID_TYPES
from serve.bundle.parquet import ParquetTable, numbers


class UserSearch:
    """User ids by how they begin."""

    def __init__(self, bundle: Bundle) -> None:
        table = ParquetTable(bundle.file("users.parquet"), {"user_id": ID_TYPES})
        self._ids = table.read(["user_id"])["user_id"]
        self._texts: pa.Array | None = None

    def first(self, limit: int) -> list[str]:
        """The first ids of the table, as text."""
        return [str(value) for value in self._ids[:limit].to_pylist()]

    def find(self, query: str, limit: int = 100) -> list[str]:
        """Ids that begin with `query`, the shortest first; then ids that have it further on.

        An empty query finds the first ids of the table.
        """
        query = query.strip()
        if not query:
            return self.first(limit)
        if self._texts is None:
            self._texts = self._ids.cast(pa.string())
        starts = self._texts.filter(pc.starts_with(self._texts, query)).to_pylist()
        found = sorted(starts, key=lambda text: (len(text), text))[:limit]
        if len(found) < limit:
            inside = self._texts.filter(pc.match_substring(self._texts, query)).to_pylist()
            known = set(found)
            found += [text for text in inside if text not in known][: limit - len(found)]
        return found


def items_by_genre(bundle: Bundle) -> dict[str, np.ndarray]:
    """The items of each genre (int64, rising), by name; empty where the data has no genres.

    Names in brackets, such as MovieLens' "(no genres listed)", are no genres.
    """
    types = {"item_id": ID_TYPES, "genres": [pa.string()]}
    table = ParquetTable(bundle.file("items.parquet"), types, optional=["genres"])
    if "genres" not in table.columns:
        return {}
    encoded = table.read(["genres"])["genres"].dictionary_encode()
    codes = encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False)
    lists = [(value or "").split("|") for value in encoded.dictionary.to_pylist()]
    names = sorted({name for listed in lists for name in listed if name and not name.startswith("(")})
    found = {}
    for name in names:
        having = np.array([code for code, listed in enumerate(lists) if name in listed])
        found[name] = 1 + np.flatnonzero(np.isin(codes, having)).astype(np.int64)
    return found


def raters(bundle: Bundle, item_indices: Sequence[int]) -> dict[int, np.ndarray]:
    """Who has rated each of these items: user indices, int32, rising.

    Reads `seen.parquet` through, a row group at a time: it is sorted by user, and an index by item would take
    as much memory as the file.
    """
    table = ParquetTable(
        bundle.file("seen.parquet"), {"user_index": [pa.int32()], "item_index": [pa.int32()]}
    )
    wanted = np.unique(np.asarray(item_indices, np.int32))
    parts: dict[int, list[np.ndarray]] = {int(index): [] for index in wanted}
    for group in range(table.n_row_groups):
        columns = table.read(["user_index", "item_index"], group)
        users, items = numbers(columns["user_index"]), numbers(columns["item_index"])
        rows = np.isin(items, wanted)
        users, items = users[rows], items[rows]
        for index, found in parts.items():
            found.append(users[items == index])
    return {
        index: np.concatenate(found) if found else np.empty(0, np.int32) for index, found in parts.items()
    }
