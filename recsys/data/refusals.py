"""Refused rows: data with any is an error that shows their number, the first of them, and what to do."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recsys.errors import DataError
from serve.errors import InputError
from serve.reading.ids import as_written, check_type, one_type, why_not
from serve.reading.rows import RefusedRow, Source, joined
from serve.terminal import counted

SHOWN = 5
"""Refused rows that an error shows."""
_DECIMAL_COMMA = re.compile(r"[+-]?[0-9]+,[0-9]+")


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
            advice += ". Text must be UTF-8: iconv -f LATIN1 -t UTF-8 OLD > NEW, if it is Latin-1"
        if any(row.column and _DECIMAL_COMMA.fullmatch(str(row.value)) for row in self._first):
            advice += ". Numbers have a decimal point: write 4.5, not 4,5"
        raise DataError(listed(self._name, self._n, "row", "can't be read", self._first, advice))


def keyed_table(
    source: Source, key: str, columns: Sequence[str] | None = None, id_type: pa.DataType | None = None
) -> tuple[pa.Array, pa.Table]:
    """All rows of a small file with a row for each id in the column `key`, which is one of `columns`.

    Returns:
        The ids, distinct: int64 or string [n], `id_type` if it is given; and the table [n].

    Raises:
        InputError: the file can't be read, or the column can't hold such ids.
        DataError: refused rows, rows without an id, repeated ids.
    """
    check_type(source, key, id_type, "the bundle's")
    refusals, empty = Refusals(source.name), source.schema.empty_table()
    tables, ids = [empty if columns is None else empty.select(columns)], []
    for rows in source.read(columns):
        given = joined(rows.table[key])
        ids.append(as_written(given, source.is_text, id_type))
        refused = {
            place: rows.refuse(place, key, why_not(value := given[place].as_py()), value)
            for place in np.flatnonzero(ids[-1].is_null().to_numpy(zero_copy_only=False)).tolist()
        }
        refusals.add(rows.without(refused).refused)
        tables.append(rows.table)
    refusals.check()
    found = joined(one_type(ids))
    counts = pc.value_counts(found)
    repeated = counts.field("values").filter(pc.greater(counts.field("counts"), 1))
    if len(repeated):
        shown = ", ".join(map(repr, repeated[:SHOWN].to_pylist()))
        raise DataError(
            f"{source.name}: {len(repeated):,} ids in {key} are repeated: {shown}. Keep one row for each."
        )
    return found, pa.concat_tables(tables)


def listed(name: str, n: int, noun: str, what: str, first: Sequence[RefusedRow], advice: str) -> str:
    """A message: how many rows (called `noun`, in the singular), the first of them, what to do."""
    shown = "\n  ".join(f"{row.place}: {row.what}" if row.source == name else str(row) for row in first)
    more = f"\n  … and {n - len(first):,} more" if n > len(first) else ""
    return f"{name}: {counted(n, noun)} {what}:\n  {shown}{more}\n{advice}."


@contextmanager
def as_data_errors() -> Iterator[None]:
    """Raise DataError in place of a reader's InputError."""
    try:
        yield
    except InputError as error:
        raise DataError(str(error)) from None
