"""Where the rows of a job come from: Parquet, text that is staged as Parquet, or the users of the bundle."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import pyarrow as pa

from serve.batch.job import Plan
from serve.batch.staging import StagedSource, staged_path
from serve.bundle.ids import IdIndex
from serve.reading.parquet import BATCH_ROWS, ParquetSource
from serve.reading.rows import Rows
from serve.runtime.recommender import Recommender


class GroupedSource(Protocol):
    """Rows in groups, each of which can be read by itself; see `serve.reading.parquet.ParquetSource`."""

    name: str
    """What refusals and errors call it."""
    schema: pa.Schema
    """Of all its columns."""
    is_text: bool
    """Whether ids are text here, whatever they are in the bundle."""
    group_rows: list[int]
    """Rows of each group."""

    def read(
        self,
        columns: Sequence[str] | None = None,
        *,
        row_groups: Sequence[int] | None = None,
        first_row: int = 1,
        batch_rows: int = BATCH_ROWS,
    ) -> Iterator[Rows]:
        """The rows of some groups, at most `batch_rows` at a time; see ParquetSource.

        Raises:
            InputError: the file is damaged.
        """


class UsersSource:
    """Every user of the bundle in index order, as rows with `user_id`, in groups of `part_rows`."""

    name = "the bundle's users"
    is_text = False

    def __init__(self, users: IdIndex, part_rows: int) -> None:
        self._users = users
        self.schema = pa.schema({"user_id": pa.string() if users.is_string else pa.int64()})
        starts = range(0, len(users), part_rows)
        self.group_rows = [min(part_rows, len(users) - start) for start in starts]

    def read(
        self,
        columns: Sequence[str] | None = None,
        *,
        row_groups: Sequence[int] | None = None,
        first_row: int = 1,
        batch_rows: int = BATCH_ROWS,
    ) -> Iterator[Rows]:
        """See GroupedSource. The groups are those from the user `first_row` on."""
        groups = range(len(self.group_rows)) if row_groups is None else row_groups
        stop = first_row + sum(self.group_rows[group] for group in groups)
        for low in range(first_row, stop, batch_rows):
            index = np.arange(low, min(low + batch_rows, stop))
            table = pa.table([self._users.take(index)], schema=self.schema)
            yield Rows(self.name, "row", table, index, [])


def open_planned(plan: Plan, place: int, folder: Path, recommender: Recommender) -> GroupedSource:
    """What the fragments of a plan's file, or of all users, are read from.

    Raises:
        InputError: the file is damaged.
    """
    if not plan.files:
        return UsersSource(recommender.users, plan.job.rows_per_part)
    file = plan.files[place]
    if file.is_text:
        return StagedSource(file.path, staged_path(folder, place))
    return ParquetSource(Path(file.path))
