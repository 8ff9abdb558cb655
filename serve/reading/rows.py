"""What a reader gives: tables of rows, where each row stands in its file, and the rows that it refuses."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple, Protocol

import msgspec
import numpy as np
import pyarrow as pa

SHOWN_CHARACTERS = 200
"""How much of a refused row's text is kept."""

Unit = Literal["line", "row"]


class RefusedRow(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A row that is not what it should be. In JSON, it has either a `line` or a `row`."""

    source: str
    line: int | None = None
    """In text: the physical line, from 1, that the row begins with; the heading is line 1."""
    row: int | None = None
    """In Parquet, or among the users of a bundle: the row, from 1."""
    column: str | None
    """None where the row as a whole is wrong."""
    reason: str
    value: int | float | str | None

    @property
    def place(self) -> str:
        """Where it stands in its source: "line 7" or "row 7"."""
        return f"row {self.row}" if self.line is None else f"line {self.line}"

    @property
    def what(self) -> str:
        """The value and what is wrong with it: "rating 'good': not a finite number"."""
        shown = f"{self.column} {self.value!r}" if self.column else repr(self.value)
        return f"{shown}: {self.reason}"

    def __str__(self) -> str:
        return f"{self.source}, {self.place}: {self.what}"


class Rows(NamedTuple):
    """A stretch of the rows of one source."""

    source: str
    unit: Unit
    """What `numbers` count."""
    table: pa.Table
    numbers: np.ndarray | range
    """int64 [n], from 1, ascending: the line (text) or the row (Parquet) of each row of the table."""
    refused: list[RefusedRow]
    """Rows of the stretch that are not in the table, ascending."""
    n_blank: int = 0
    """Blank lines that were skipped."""

    def refuse(
        self, place: int, column: str | None, reason: str, value: int | float | str | None
    ) -> RefusedRow:
        """The refusal of the table's row at `place`, from 0."""
        return refused_row(self.source, self.unit, int(self.numbers[place]), column, reason, value)

    def without(self, refused: dict[int, RefusedRow]) -> Rows:
        """The rows but for those at these places of the table, which are refused."""
        if not refused:
            return self
        good = np.ones(len(self.table), bool)
        good[list(refused)] = False
        more = sorted([*self.refused, *refused.values()], key=lambda row: row.line or row.row or 0)
        return self._replace(
            table=kept(self.table, good), numbers=np.asarray(self.numbers)[good], refused=more
        )


class Source(Protocol):
    """One file, open."""

    name: str
    """What refusals and errors call it."""
    schema: pa.Schema
    """Of all its columns; those of text files are strings."""
    is_text: bool
    """Whether cells are text, whose types are read by the rules of `ids`, `numbers` and `times`."""

    def read(self, columns: Sequence[str] | None = None) -> Iterator[Rows]:
        """All rows in order, in stretches of bounded size; of these columns (by name), or (None) of all.

        Raises:
            InputError: the file can't be read, or is damaged.
        """


def refused_row(
    source: str, unit: Unit, number: int, column: str | None, reason: str, value: int | float | str | None
) -> RefusedRow:
    """A refusal; of a long text, the beginning is kept."""
    if isinstance(value, str) and len(value) > SHOWN_CHARACTERS:
        value = value[:SHOWN_CHARACTERS] + "…"
    line, row = (number, None) if unit == "line" else (None, number)
    return RefusedRow(source=source, line=line, row=row, column=column, reason=reason, value=value)


def kept(table: pa.Table, good: np.ndarray) -> pa.Table:
    """The rows that are good (bool [n]), whatever their columns are: Arrow can't filter every type."""
    try:
        return table.filter(pa.array(good))
    except pa.ArrowNotImplementedError:
        edges = np.flatnonzero(np.diff(good, prepend=False, append=False))
        runs = [table.slice(start, stop - start) for start, stop in edges.reshape(-1, 2).tolist()]
        return pa.concat_tables([table.slice(0, 0), *runs])


def plain_text(column: pa.Array) -> pa.Array:
    """A column of strings, views of strings, large strings or a dictionary of them as string [n]; others as
    they are.
    """
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if pa.types.is_large_string(column.type) or pa.types.is_string_view(column.type):
        column = column.cast(pa.string())
    return column.cast(pa.string()) if pa.types.is_null(column.type) else column


def joined(column: pa.ChunkedArray) -> pa.Array:
    """The values of a column in one array. A single chunk is not copied, as Arrow would."""
    if column.num_chunks == 1:
        return column.chunk(0)
    return pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)
