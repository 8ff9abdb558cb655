"""Which columns of a table hold the ratings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

from recsys.errors import DataError

USUAL = {
    "user": ("user_id", "userId"),
    "item": ("item_id", "itemId", "movie_id", "movieId"),
    "rating": ("rating",),
    "timestamp": ("timestamp",),
}
"""The names that are tried, in this order, where none is given."""


@dataclass(frozen=True)
class Columns:
    """The names of the four columns; None stands for the usual names (`USUAL`).

    Timestamps are optional: None takes them where a usual name is there, "" leaves them out.
    """

    user: str | None = None
    item: str | None = None
    rating: str | None = None
    timestamp: str | None = None

    def resolve(self, header: Sequence[str], file: str) -> dict[str, str]:
        """`{"user": its name in the header, …}`; without "timestamp" where there are none.

        Raises:
            DataError: a column that is not there, with those that are; a name that stands for two.
        """
        found: dict[str, str] = {}
        missing: list[str] = []
        for role in (field.name for field in fields(self)):
            named: str | None = getattr(self, role)
            if role == "timestamp" and named == "":
                continue
            wanted = USUAL[role] if named is None else (named,)
            name = next((name for name in wanted if name in header), None)
            if name is not None:
                found[role] = name
            elif role != "timestamp" or named is not None:
                missing.append(f"{role} ({' or '.join(wanted)})")
        if missing:
            there = ", ".join(filter(str.strip, header))
            raise DataError(
                f"{file}: no column for {', '.join(missing)}. It has: {there}. "
                f"Name them with --user-column, --item-column, --rating-column, --timestamp-column."
            )
        for name in found.values():
            if header.count(name) > 1:
                raise DataError(f"{file}: {header.count(name)} columns are called {name!r}; one is needed.")
        if len(set(found.values())) < len(found):
            raise DataError(f"{file}: one column for two purposes: {found}. Name a column for each.")
        return found
