"""Which columns of a table hold the ratings."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

from serve.reading.columns import find_columns


@dataclass(frozen=True)
class Columns:
    """The names of the four columns; None stands for a usual name (`serve.reading.columns.USUAL`).

    Timestamps are optional: None takes them where a usual name is there, "" leaves them out.
    """

    user: str | None = None
    item: str | None = None
    rating: str | None = None
    timestamp: str | None = None

    def resolve(self, names: Sequence[str], file: str) -> dict[str, str]:
        """`{"user": its name in the file, …}`; without "timestamp" where there is none.

        Raises:
            InputError: as `find_columns`.
        """
        roles = dataclasses.asdict(self)
        if self.timestamp == "":
            del roles["timestamp"]
        return find_columns(names, roles, file)
