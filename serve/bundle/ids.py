"""The ids in `users.parquet` and `items.parquet`: written, and converted to indices and back."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from serve.bundle.id_lookup import IdLookup, KnownRows, make_id_lookup
from serve.bundle.parquet import ParquetTable, arrow, numbers, write_columns
from serve.errors import BundleError, RequestError
from serve.reading.cells import parse_integer
from serve.reading.rows import joined

ID_TYPES = (pa.int64(), pa.string())
EXTRA_TYPES = {"title": pa.string(), "genres": pa.string(), "year": pa.int32()}
"""Optional columns of `items.parquet`, and their types."""


def write_users(path: Path, user_ids: np.ndarray | Sequence[Any]) -> None:
    """Write `users.parquet`: `user_id` (int64 or str [n_users]) in index order, row 1 first.

    Raises ValueError: an id twice, an empty list, or ids that are neither int64 nor str.
    """
    write_columns(path, {"user_id": _id_column("user_id", user_ids)})


def write_known_users(path: Path, user_ids: pa.Array, known: np.ndarray) -> None:
    """Write `users.parquet` with the ids (int64 or string [n_users]) of `known` users (bool [n_users]) alone.

    The others have null, so that every user keeps the index.
    """
    import pyarrow.compute as pc

    write_columns(path, {"user_id": pc.if_else(arrow(known), user_ids, pa.scalar(None, user_ids.type))})


def write_items(
    path: Path,
    item_ids: np.ndarray | Sequence[Any],
    *,
    titles: Sequence[str | None] | None = None,
    genres: Sequence[str | None] | None = None,
    years: Sequence[int | None] | None = None,
) -> None:
    """Write `items.parquet`: `item_id` (int64 or str [n_items]) in index order, row 1 first, and more.

    Titles, genres (with "|" between two of them) and years have None where unknown. Pandas columns will do.

    Raises ValueError: an id twice, an empty list, ids that are neither int64 nor str, or lengths that differ.
    """
    columns = {"item_id": _id_column("item_id", item_ids)}
    for (name, kind), values in zip(EXTRA_TYPES.items(), (titles, genres, years), strict=True):
        if values is not None:
            columns[name] = _array(values, kind)
            if len(columns[name]) != len(columns["item_id"]):
                raise ValueError(f"{len(columns[name])} {name} values for {len(columns['item_id'])} items")
    write_columns(path, columns)


def items_table(path: Path) -> ParquetTable:
    """`items.parquet`, open. Raises BundleError: a column is missing or of another type."""
    types = {"item_id": ID_TYPES} | {name: (kind,) for name, kind in EXTRA_TYPES.items()}
    return ParquetTable(path, types, optional=list(EXTRA_TYPES), nullable=list(EXTRA_TYPES))


def _id_column(name: str, ids: np.ndarray | Sequence[Any]) -> pa.Array:
    column = _array(ids)
    if pa.types.is_integer(column.type):
        column = column.cast(pa.int64())
    elif pa.types.is_large_string(column.type):
        column = column.cast(pa.string())
    if not len(column) or column.null_count:
        raise ValueError(f"{name}: {len(column)} ids, {column.null_count} of them missing")
    if column.type not in ID_TYPES:
        raise ValueError(f"{name} must be int64 or str, not {column.type}")
    if len(column.unique()) != len(column):
        raise ValueError(f"{name}: {len(column) - len(column.unique())} ids are there more than once")
    return column


def _array(values: Any, kind: pa.DataType | None = None) -> pa.Array:
    column = pa.array(values, type=kind, from_pandas=True)
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column


class IdIndex:
    """Converts the ids of one table to indices, and indices to ids. Thread-safe.

    The look-up (`serve.bundle.id_lookup`) is made at its first use, and then reports repeated ids. `name` is
    "user_id" or "item_id", `ids` int64 or string [n], the first of them for index 1. `n_forgotten` of them
    are null: users who were taken out of the bundle, and whose row is the average user's.

    Raises BundleError: another number of ids is missing.
    """

    def __init__(self, name: str, ids: pa.Array, n_forgotten: int = 0) -> None:
        if ids.null_count != n_forgotten:
            raise BundleError(
                f"{ids.null_count} of {name} are missing, not {n_forgotten}. Export the bundle again."
            )
        self.name = name
        self.is_string = ids.type == pa.string()
        self._ids = ids
        self._numbers = None if self.is_string else numbers(ids.fill_null(-1) if n_forgotten else ids)
        self._lock = threading.Lock()
        self._id_lookup: IdLookup | None = None

    @classmethod
    def read(cls, path: Path, name: str, n: int, n_forgotten: int = 0) -> IdIndex:
        """The ids of column `name` of a Parquet file; `n_forgotten` of them are null.

        Raises:
            BundleError: the file is damaged, has not `n` rows, or another number of ids is missing.
        """
        table = ParquetTable(path, {name: ID_TYPES}, nullable=[name] if n_forgotten else [])
        table.check_rows(n)
        return cls(name, table.read([name])[name], n_forgotten)

    def __len__(self) -> int:
        """Number of rows, without row 0, "unknown"; those of forgotten users count."""
        return len(self._ids)

    @cached_property
    def known_rows(self) -> np.ndarray:
        """The indices that have an id: int64 [n - n_forgotten], rising."""
        if not self._ids.null_count:
            return np.arange(1, len(self) + 1)
        known: np.ndarray = 1 + np.flatnonzero(self._ids.is_valid().to_numpy(zero_copy_only=False))
        return known

    @property
    def first_id(self) -> int | str:
        """The id with the lowest index."""
        return self.one_id(int(self.known_rows[0]) if self._ids.null_count else 1)

    @property
    def arrow_ids(self) -> pa.Array:
        """The ids in index order, null where a user was forgotten: int64 or string [n]."""
        return self._ids

    @property
    def type(self) -> pa.DataType:
        """Type of the ids: pa.int64() or pa.string()."""
        return self._ids.type

    @property
    def type_name(self) -> str:
        """What an id must be, in words."""
        return "a string" if self.is_string else "an integer (int64)"

    def parse(self, text: str) -> int | str:
        """An id from text, as a command line or a page gives it: "42" is 42 where ids are integers.

        Raises:
            RequestError: it can't be read as an id of this table.
        """
        if not text and not (self.is_string and self.lookup_one(text)):
            raise RequestError(f"{self.name} is empty")
        if self.is_string:
            return text
        number = parse_integer(text)
        if number is None:
            raise RequestError(f"{self.name} must be {self.type_name}, got {text!r:.80}")
        return number

    def lookup_one(self, value: Any) -> int:
        """The index of one id, 0 if it is not in the table. Raises RequestError: an id of the wrong type."""
        if self.is_string:
            if not isinstance(value, str):
                raise self._wrong(value)
        elif type(value) is not int or not -(1 << 63) <= value < 1 << 63:
            value = self._checked_number(value)
        return self._lookup().one(value)

    def lookup_text(self, text: str) -> int:
        """The index of the id that text gives, as it is or without outer spaces; 0 where it gives none."""
        for typed in (text, text.strip()):
            with suppress(RequestError):
                if index := self.lookup_one(self.parse(typed)):
                    return index
        return 0

    def lookup(self, ids: Any) -> np.ndarray:
        """The indices of ids (a list, an array or a pandas column [n]): int64 [n], 0 where an id is unknown.

        Raises RequestError: an id is missing or of the wrong type, or the array has more axes.
        """
        if getattr(ids, "ndim", 1) != 1:
            raise RequestError(f"{self.name}s must be one list, got an array of shape {ids.shape}")
        return self._lookup().many(self._strings(ids) if self.is_string else self._int64(ids))

    def ids(self, index: np.ndarray) -> np.ndarray:
        """The ids at `index` (int64 [...], 0 to n): int64 or object (str) [...].

        Index 0 has -1 or None, and so has a forgotten user.
        """
        if self._numbers is not None:
            # Index 0 wraps to the last id, and is then replaced.
            found: np.ndarray = self._numbers[index - 1]
            return found if index.all() else np.where(index > 0, found, -1)
        flat = [self._ids[i - 1].as_py() if i else None for i in index.ravel().tolist()]
        result = np.empty(len(flat), object)
        result[:] = flat
        return result.reshape(index.shape)

    def listed(self, index: np.ndarray) -> np.ndarray:
        """As `ids`, for lists of indices of which none repeats.

        A single list is often the only look at a bundle, whose other ids no one asks for.

        Raises BundleError: ids of a single list, int64 [K], repeat.
        """
        found = self.ids(index)
        if index.ndim == 1 and len(set(found.tolist())) < len(set(index.tolist())):
            self._lookup()  # raises
        return found

    def take(self, index: np.ndarray) -> pa.Array:
        """As `ids`, for int64 [n], as an Arrow array: int64 or string [n], null where it has none."""
        return self._ids.take(arrow(index - 1, missing=index == 0))

    def one_id(self, index: int) -> int | str:
        """The id at one index of `known_rows`."""
        value: int | str = self._ids[index - 1].as_py()
        return value

    def _lookup(self) -> IdLookup:
        if self._id_lookup is None:
            with self._lock:
                if self._id_lookup is None:
                    n_forgotten = self._ids.null_count
                    made = make_id_lookup(self._ids.drop_null() if n_forgotten else self._ids)
                    if twice := len(self) - n_forgotten - made.n_distinct:
                        raise BundleError(f"{twice} of {self.name} are there twice. Export the bundle again.")
                    self._id_lookup = KnownRows(made, self.known_rows) if n_forgotten else made
        return self._id_lookup

    def _int64(self, ids: Any) -> np.ndarray:
        if isinstance(ids, (pa.Array, pa.ChunkedArray)):
            if not pa.types.is_integer(ids.type) or ids.null_count:
                raise self._wrong(None if ids.null_count else ids[0] if len(ids) else ids.type)
            ids = numbers(joined(ids) if isinstance(ids, pa.ChunkedArray) else ids)
        elif hasattr(ids, "__array__"):
            ids = np.asarray(ids)
        if isinstance(ids, np.ndarray) and ids.dtype.kind in "iu":
            if ids.dtype == np.uint64 and len(ids) and ids.max() >= 1 << 63:
                raise self._wrong(ids.max())
            return ids.astype(np.int64, copy=False)
        values = ids.tolist() if isinstance(ids, np.ndarray) else list(ids)
        if set(map(type, values)) - {int}:
            values = [self._checked_number(value) for value in values]
        try:
            return np.array(values, np.int64)
        except OverflowError:
            raise self._wrong(max(values, key=abs)) from None

    def _strings(self, ids: Any) -> Sequence[str]:
        values: Sequence[Any] = ids.to_pylist() if hasattr(ids, "to_pylist") else list(ids)
        for kind in set(map(type, values)) - {str}:
            if not issubclass(kind, str):
                raise self._wrong(next(value for value in values if type(value) is kind))
        return values

    def _checked_number(self, value: Any) -> int:
        # bool is an int to Python, never an id.
        is_integer = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
        if is_integer and -(1 << 63) <= value < 1 << 63:
            return int(value)
        raise self._wrong(value)

    def _wrong(self, value: Any) -> RequestError:
        shown = value.as_py() if isinstance(value, pa.Scalar) else value
        return RequestError(f"{self.name} must be {self.type_name}, got {shown!r} ({type(shown).__name__})")
