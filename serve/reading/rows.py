"""What a reader returns: tables of rows, the position of each row in its file, and the refused rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple, Protocol

import msgspec
import numpy as np
import pyarrow as pa

SHOWN_CHARACTERS = 200
"""Characters of a refused row's text that are kept."""

Unit = Literal["line", "row"]


class RefusedRow(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A row that can't be used. In JSON, it has either a `line` or a `row`."""

    source: str
    line: int | None = None
    """In text: the physical line, from 1, on which the row begins; the heading is line 1."""
    row: int | None = None
    """In Parquet, or among the users of a bundle: the row's number, from 1."""
    column: str | None
    """None: the row as a whole is wrong."""
    reason: str
    value: int | float | str | None

    @property
    def place(self) -> str:
        """Its position in the source: "line 7" or "row 7"."""
        return f"row {self.row}" if self.line is None else f"line {self.line}"

    @property
    def what(self) -> str:
        """The value and what is wrong with it: "rating 'good': not a finite number"."""
        shown = f"{self.column} {self.value!r}" if self.column else repr(self.value)
        return f"{shown}: {self.reason}"

    def __str__(self) -> str:
        return f"{self.source}, {self.place}: {self.what}"


class Rows(NamedTuple):
    """Consecutive rows of one source."""

    source: str
    unit: Unit
    """Unit of `numbers`."""
    table: pa.Table
    numbers: np.ndarray | range
    """int64 [n], from 1, ascending: the line (text) or the row (Parquet) of each row of the table."""
    refused: list[RefusedRow]
    """Rows in between that are not in the table, ascending."""
    n_blank: int = 0
    """Blank lines that were skipped."""
    n_within: int = 0
    """Lines after the first of records that take several, as quoted cells may."""
    first_within: int | None = None
    """Line on which the first such record begins."""

    def refuse(
        self, place: int, column: str | None, reason: str, value: int | float | str | None
    ) -> RefusedRow:
        """Refuse the table's row at `place`, from 0. A long text is cut."""
        return refused_row(self.source, self.unit, int(self.numbers[place]), column, reason, value)

    def without(self, refused: dict[int, RefusedRow]) -> Rows:
        """The rows with those at these places of the table moved to `refused`."""
        if not refused:
            return self
        good = np.ones(len(self.table), bool)
        good[list(refused)] = False
        more = sorted([*self.refused, *refused.values()], key=lambda row: row.line or row.row or 0)
        return self._replace(
            table=_filtered(self.table, good), numbers=np.asarray(self.numbers)[good], refused=more
        )


class SourceColumns(Protocol):
    """The columns of a source of rows."""

    name: str
    """Its name in refusals and errors."""
    schema: pa.Schema
    """Of all columns; those of text files are strings."""
    is_text: bool
    """Whether all cells are text, converted by the rules of `ids`, `numbers` and `times`."""


class Source(SourceColumns, Protocol):
    """One file, open."""

    def read(self, columns: Sequence[str] | None = None) -> Iterator[Rows]:
        """Read some columns (None: all) of all rows in order, in parts of bounded size.

        Raises InputError: the file can't be read, or is damaged.
        """


def refused_row(
    source: str, unit: Unit, number: int, column: str | None, reason: str, value: int | float | str | None
) -> RefusedRow:
    """Refuse the row with this number; a long text is cut."""
    if isinstance(value, str) and len(value) > SHOWN_CHARACTERS:
        value = value[:SHOWN_CHARACTERS] + "…"
    line, row = (number, None) if unit == "line" else (None, number)
    return RefusedRow(source=source, line=line, row=row, column=column, reason=reason, value=value)


def plain_text(column: pa.Array) -> pa.Array:
    """Convert every type of strings, and nulls, to string [n]; other columns stay, but for dictionaries."""
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    kind = column.type
    is_text = pa.types.is_large_string(kind) or pa.types.is_string_view(kind) or pa.types.is_null(kind)
    return column.cast(pa.string()) if is_text else column


def where(good: pa.Array, values: pa.Array) -> pa.Array:
    """The values [n] with null where `good` (bool [n]) is false or null."""
    import pyarrow.compute as pc  # here: an answer needs this module, and not what it takes to load Arrow's

    if not good.null_count and pc.all(good).as_py():
        return values
    return pc.if_else(pc.fill_null(good, False), values, pa.scalar(None, values.type))


def joined(column: pa.ChunkedArray) -> pa.Array:
    """A column as one array; a single chunk is not copied."""
    if column.num_chunks == 1:
        return column.chunk(0)
    return pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)


def _filtered(table: pa.Table, good: np.ndarray) -> pa.Table:
    """The rows where bool [n] is true, for columns of any type: Arrow's own filter lacks some."""
    try:
        return table.filter(pa.array(good))
    except pa.ArrowNotImplementedError:
        edges = np.flatnonzero(np.diff(good, prepend=False, append=False))
        runs = [table.slice(start, stop - start) for start, stop in edges.reshape(-1, 2).tolist()]
        return pa.concat_tables([table.slice(0, 0), *runs])
