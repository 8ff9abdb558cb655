"""Rows that a reader refuses: data with any is refused, with their number, the first, and the way out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pyarrow as pa

from recsys.errors import DataError
from serve.errors import InputError
from serve.reading.rows import RefusedRow, Source

SHOWN = 5
"""How many refused rows an error shows."""


class Refusals:
    """The refused rows of a data set.

    Args:
        name: What the error calls the data set.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._n = 0
        self._first: list[RefusedRow] = []

    def add(self, rows: Sequence[RefusedRow]) -> None:
        """Count more of them."""
        self._n += len(rows)
        self._first += sorted(rows, key=lambda row: row.line or row.row or 0)[: SHOWN - len(self._first)]

    def check(self) -> None:
        """Raise DataError if there are any."""
        if not self._n:
            return
        way_out = "Correct or remove these rows"
        if any("time" in row.reason for row in self._first):
            way_out += ", or leave the times out with --timestamp-column ''"
        if any(row.reason == "not UTF-8" for row in self._first):
            way_out += ". Text must be UTF-8: iconv converts it"
        raise DataError(listed(self._name, self._n, "rows can't be read", self._first, way_out))


def whole_table(source: Source, columns: Sequence[str] | None = None) -> pa.Table:
    """All rows of a small file.

    Raises:
        InputError: it can't be read.
        DataError: refused rows.
    """
    refusals, tables = Refusals(source.name), [source.schema.empty_table()]
    if columns is not None:
        tables = [tables[0].select(columns)]
    for rows in source.read(columns):
        refusals.add(rows.refused)
        tables.append(rows.table)
    refusals.check()
    return pa.concat_tables(tables)


def listed(name: str, n: int, what: str, first: Sequence[RefusedRow], way_out: str) -> str:
    """A message: how many rows, the first of them, the way out."""
    shown = "\n  ".join(f"{row.place}: {row.what}" if row.source == name else str(row) for row in first)
    more = f"\n  … and {n - len(first):,} more" if n > len(first) else ""
    return f"{name}: {n:,} {what}:\n  {shown}{more}\n{way_out}."


@contextmanager
def as_data_errors() -> Iterator[None]:
    """Raise DataError where a reader raises InputError."""
    try:
        yield
    except InputError as error:
        raise DataError(str(error)) from None
