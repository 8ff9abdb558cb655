"""Refused rows: data with any is an error that shows their number, the first of them, and what to do."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pyarrow as pa

from recsys.errors import DataError
from serve.errors import InputError
from serve.reading.rows import RefusedRow, Source

SHOWN = 5
"""Refused rows that an error shows."""


class Refusals:
    """Counts the refused rows of a data set, and keeps the first; `name` is the data set's in the error."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._n = 0
        self._first: list[RefusedRow] = []

    def add(self, rows: Sequence[RefusedRow]) -> None:
        """Add the refused rows of the next part of the data."""
        self._n += len(rows)
        self._first += sorted(rows, key=lambda row: row.line or row.row or 0)[: SHOWN - len(self._first)]

    def check(self) -> None:
        """Raise DataError if there are any."""
        if not self._n:
            return
        advice = "Correct or remove these rows"
        if any("time" in row.reason for row in self._first):
            advice += ", or leave the times out with --timestamp-column ''"
        if any(row.reason == "not UTF-8" for row in self._first):
            advice += ". Text must be UTF-8: iconv converts it"
        raise DataError(listed(self._name, self._n, "rows can't be read", self._first, advice))


def whole_table(source: Source, columns: Sequence[str] | None = None) -> pa.Table:
    """All rows of a small file.

    Raises:
        InputError: it can't be read.
        DataError: refused rows.
    """
    refusals, empty = Refusals(source.name), source.schema.empty_table()
    tables = [empty if columns is None else empty.select(columns)]
    for rows in source.read(columns):
        refusals.add(rows.refused)
        tables.append(rows.table)
    refusals.check()
    return pa.concat_tables(tables)


def listed(name: str, n: int, what: str, first: Sequence[RefusedRow], advice: str) -> str:
    """A message: how many rows, the first of them, what to do."""
    shown = "\n  ".join(f"{row.place}: {row.what}" if row.source == name else str(row) for row in first)
    more = f"\n  … and {n - len(first):,} more" if n > len(first) else ""
    return f"{name}: {n:,} {what}:\n  {shown}{more}\n{advice}."


@contextmanager
def as_data_errors() -> Iterator[None]:
    """Raise DataError in place of a reader's InputError."""
    try:
        yield
    except InputError as error:
        raise DataError(str(error)) from None
