"""Where rows come from: what every kind of input can do."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import NamedTuple, Protocol

import msgspec
import numpy as np
import pyarrow as pa


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

    def read(self, start: int, stop: int, first_row: int, batch_rows: int) -> Generator[Rows]:
        """The rows of a stretch, at most `batch_rows` at a time.

        Raises:
            InputError: the file is damaged.
        """
