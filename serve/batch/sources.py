"""Where the rows of a job come from: Parquet, text that is staged as Parquet, or the users of the bundle."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from serve.batch.job import Plan
from serve.batch.staging import StagedSource, staged_path
from serve.bundle.ids import IdIndex
from serve.reading.parquet import ParquetSource
from serve.reading.partitions import PartitionedSource
from serve.reading.rows import Rows
from serve.runtime.recommender import Recommender


class UsersSource:
    """Every user of the bundle in index order, as rows with `user_id`, in groups of `part_rows`."""

    name = "the bundle's users"
    is_text = False

    def __init__(self, users: IdIndex, part_rows: int) -> None:
        self._users = users
        self.schema = pa.schema({"user_id": users.type})
        n_users = len(users.known_rows)
        self.group_rows = [min(part_rows, n_users - start) for start in range(0, n_users, part_rows)]

    def read(
        self, columns: Sequence[str] | None, *, row_groups: Sequence[int], first_row: int, batch_rows: int
    ) -> Iterator[Rows]:
        """See ParquetSource. The first of `row_groups` begins with the user `first_row`."""
        stop = first_row + sum(self.group_rows[group] for group in row_groups)
        for low in range(first_row, stop, batch_rows):
            index = np.arange(low, min(low + batch_rows, stop))
            table = pa.table([self._users.take(self._users.known_rows[index - 1])], schema=self.schema)
            yield Rows(self.name, "row", table, index, [])


def open_planned(
    plan: Plan, place: int, folder: Path, recommender: Recommender
) -> ParquetSource | PartitionedSource | StagedSource | UsersSource:
    """Open the plan's file at `place`; without files, every user. Raises InputError: it is damaged."""
    if not plan.files:
        return UsersSource(recommender.users, plan.job.rows_per_part)
    file = plan.files[place]
    if file.is_text:
        return StagedSource(file.path, staged_path(folder, place))
    source = ParquetSource(Path(file.path))
    return PartitionedSource(source, file.partition) if file.partition else source
