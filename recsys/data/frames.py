"""Ratings in memory: tables of pandas, polars, Arrow or plain columns -> `Interactions`."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa

from recsys.data import DUPLICATES, ITEM_KEYS
from recsys.data.assembly import assemble
from recsys.data.interactions import Interactions
from recsys.data.items import catalogue
from recsys.data.ratings_table import Columns, read_ratings
from recsys.data.refusals import as_data_errors
from recsys.errors import ConfigError, DataError
from serve.reading.rows import Rows


class TableSource:
    """A table in memory as a `Source`; `name` is its name in errors."""

    is_text = False

    def __init__(self, table: Any, name: str) -> None:
        self.name = name
        self._table = to_arrow(table, name)
        self.schema: pa.Schema = self._table.schema

    def read(self, columns: Sequence[str] | None = None) -> Iterator[Rows]:
        """See `Source.read`."""
        table = self._table if columns is None else self._table.select(list(columns))
        yield Rows(self.name, "row", table, range(1, 1 + len(table)), [])


def to_arrow(table: Any, name: str) -> pa.Table:
    """A table of pandas, polars or Arrow, or a dict of columns, as an Arrow table.

    Anything with the Arrow PyCapsule interface (`__arrow_c_stream__`) will do.

    Raises:
        DataError: another type, or a column that mixes types.
    """
    try:
        return pa.table(table)
    except (pa.ArrowException, TypeError, ValueError) as error:
        raise DataError(
            f"{name} can't be read as a table ({type(table).__name__}): {error}. Give a DataFrame of pandas "
            f"or polars, an Arrow table, or a dict of columns of equal length."
        ) from None


def load_frame(
    ratings: Any,
    items: Any = None,
    *,
    user_column: str | None = None,
    item_column: str | None = None,
    rating_column: str | None = None,
    timestamp_column: str | None = None,
    implicit: bool = False,
    item_key: str = "id",
    duplicates: str = "error",
    name: str = "ratings",
) -> Interactions:
    """Read ratings from a table in memory, by the rules of `load` for files.

    Args:
        ratings: As for `to_arrow`.
        items: Such a table of the items, with their ids and titles, genres or years; None: they are unknown.
        user_column: Name of a column; None: a usual name. The other columns likewise.
        item_column: In both tables.
        rating_column: Without one, each row is a like.
        timestamp_column: "" for none.
        implicit: Read no ratings.
        item_key: See `load`.
        duplicates: See `load`.
        name: The data's, in the run and in errors.

    Raises:
        DataError, ConfigError: as `load`.
    """
    if duplicates not in DUPLICATES or item_key not in ITEM_KEYS:
        raise ConfigError(
            f"duplicates={duplicates!r}, item_key={item_key!r}: one of {', '.join(DUPLICATES)}, and one of "
            f"{', '.join(ITEM_KEYS)}"
        )
    if implicit and rating_column:
        raise ConfigError("implicit reads no ratings, so it has no rating_column: leave one of them out")
    columns = Columns(user_column, item_column, "" if implicit else rating_column, timestamp_column)
    with as_data_errors():
        table = read_ratings([TableSource(ratings, name)], columns, name)
        known = None if items is None else catalogue(TableSource(items, "items"), item_column)
        found = assemble(
            table,
            known,
            None,
            name,
            "",
            "unknown",
            item_key=item_key,
            duplicates=duplicates,
            features={},
        )
    return replace(found, sha256=checksum(found))


def checksum(data: Interactions) -> str:
    """SHA-256 of the ids and the ratings: what a file's checksum is to ratings that come from no file."""
    found = hashlib.sha256()
    for ids in (data.users["user_id"], data.items["item_id"]):
        found.update("\0".join(map(str, ids)).encode())
    for column in (data.user_index, data.item_index, data.ratings, data.timestamps):
        if column is not None:
            found.update(np.ascontiguousarray(column).data)
    return found.hexdigest()
