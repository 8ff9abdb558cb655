"""Every user of the bundle, in index order."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence

import numpy as np
import pyarrow as pa

from serve.batch.source import Cut, Rows
from serve.bundle.ids import IdIndex


class UsersSource:
    """The users of the bundle as rows with `user_id`."""

    is_text = False

    def __init__(self, users: IdIndex) -> None:
        self._users = users
        self.schema = pa.schema({"user_id": pa.string() if users.is_string else pa.int64()})

    def cuts(self, part_rows: int) -> Iterator[Cut]:
        """See Source. `start` and `stop` are user indices."""
        for start in range(1, len(self._users) + 1, part_rows):
            stop = min(start + part_rows, len(self._users) + 1)
            yield Cut(start, stop, stop - start)

    def read(
        self, start: int, stop: int, first_row: int, batch_rows: int, columns: Sequence[str] | None = None
    ) -> Generator[Rows]:
        """See Source."""
        for low in range(start, stop, batch_rows):
            index = np.arange(low, min(low + batch_rows, stop))
            yield Rows(pa.table([self._users.take(index)], schema=self.schema), index, [])
