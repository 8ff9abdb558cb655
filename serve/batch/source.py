"""Where rows come from: what every kind of input can do."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from typing import NamedTuple, Protocol

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from serve.bundle.parquet import arrow

BYTES_OF = {
    pa.string(): pa.binary(),
    pa.large_string(): pa.large_binary(),
    pa.string_view(): pa.binary_view(),
}
"""Arrow's types of text, and the types of bytes that each is read as until its UTF-8 is checked."""


class BadRow(msgspec.Struct, frozen=True):
    """A row that has no answer, as the quarantine file tells it."""

    source: str
    row: int
    """From 1; a CSV's heading is not counted."""
    column: str | None
    """None where the row as a whole is wrong."""
    reason: str
    value: int | str | None

    def __str__(self) -> str:
        what = f"{self.column} {self.value!r}" if self.column else repr(self.value)
        return f"{self.source}, row {self.row}: {what}: {self.reason}"


class Rows(NamedTuple):
    """A stretch of rows."""

    table: pa.Table
    numbers: np.ndarray | range
    """int64 [n]: where each row stands in its file, from 1."""
    bad: list[BadRow]
    """Rows that are not in the table: what was there is no row."""


def as_text(source: str, rows: Rows, schema: pa.Schema) -> Rows:
    """The same rows, their text in UTF-8 as the schema says; a row that has other text is a bad one.

    Args:
        source: What bad rows name.
        rows: Text may be bytes.
        schema: What comes out.
    """
    table, bad = rows.table, list(rows.bad)
    wrong = [
        name
        for name, kind in zip(schema.names, schema.types, strict=True)
        if _has_text(kind) and not _is_utf8(table.column(name))
    ]
    if not wrong:
        return rows if table.schema.equals(schema) else Rows(table.cast(schema), rows.numbers, bad)
    good = np.ones(len(table), bool)
    for name in wrong:
        for place, shown in _not_utf8(table.column(name)):
            if good[place]:
                bad.append(BadRow(source, int(rows.numbers[place]), name, "not UTF-8", shown))
            good[place] = False
    bad.sort(key=lambda row: row.row)
    table = table if good.all() else kept(table, good)
    return Rows(table.cast(schema), np.asarray(rows.numbers)[good], bad)


def only(schema: pa.Schema, columns: Sequence[str] | None) -> pa.Schema:
    """Those columns of a schema; None: all."""
    return schema if columns is None else pa.schema([schema.field(name) for name in columns])


def kept(table: pa.Table, good: np.ndarray) -> pa.Table:
    """The rows that are good (bool [n]), whatever their columns are: Arrow can't filter every kind."""
    try:
        return table.filter(arrow(good))
    except pa.ArrowNotImplementedError:
        edges = np.flatnonzero(np.diff(good, prepend=False, append=False))
        runs = [table.slice(start, stop - start) for start, stop in edges.reshape(-1, 2).tolist()]
        return pa.concat_tables([table.slice(0, 0), *runs])


def _has_text(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        return _has_text(kind.value_type)
    if pa.types.is_nested(kind):
        return any(_has_text(kind.field(place).type) for place in range(kind.num_fields))
    return kind in BYTES_OF


def _is_utf8(column: pa.ChunkedArray) -> bool:
    try:
        if _has_text(column.type):
            column.validate(full=True)
        else:
            column.cast(pa.string())
    except pa.ArrowInvalid:
        return False
    return True


def _not_utf8(column: pa.ChunkedArray) -> Iterator[tuple[int, str]]:
    """Where text is not UTF-8, and what it is."""
    if not _has_text(column.type):
        anything = pc.CastOptions(pa.string(), allow_invalid_utf8=True)
        column = column.cast(options=anything)
    for place in range(len(column)):
        try:
            column.slice(place, 1).to_pylist()
        except UnicodeDecodeError as error:
            yield place, error.object.decode(errors="backslashreplace")
        except (ValueError, OverflowError):
            continue  # something else that Python has no value for


class Cut(NamedTuple):
    """A fragment, before it has a number."""

    start: int
    stop: int
    n_rows: int


class Source(Protocol):
    """One input, open."""

    schema: pa.Schema
    """Of every table that `read` gives."""
    is_text: bool
    """Whether ids are text here, whatever they are in the bundle."""

    def cuts(self, part_rows: int) -> Iterator[Cut]:
        """Stretches of about `part_rows` rows, in order, covering all; at least one.

        Raises:
            InputError: the file is damaged.
        """

    def read(
        self, start: int, stop: int, first_row: int, batch_rows: int, columns: Sequence[str] | None = None
    ) -> Generator[Rows]:
        """The rows of a stretch, at most `batch_rows` at a time; of these columns, or (None) of all.

        Raises:
            InputError: the file is damaged.
        """
