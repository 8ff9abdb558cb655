"""Delimited text -> rows of strings: CSV, TSV, MovieLens' u.data and ratings.dat, RecBole's atomic files.

`csv.reader(strict=True)` gives the rules: a quote opens a cell only at its beginning, is doubled within, and
nothing but a delimiter follows the one that closes. Arrow parses blocks that hold nothing of which it has
rules of its own (it takes text after a closing quote as part of the cell, and counts records, not lines).
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.resources.abc import Traversable
from typing import BinaryIO, Literal, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from serve.errors import InputError
from serve.reading.rows import RefusedRow, Rows, refused_row

BLOCK_BYTES = 4 << 20
MAX_RECORD_BYTES = 64 << 20
BOM = b"\xef\xbb\xbf"
BLANKS = " \t"


@dataclass(frozen=True)
class Layout:
    """How a table is written as text."""

    delimiter: str = ","
    header: tuple[str, ...] | None = None
    """The columns' names where the file has none; None where its first line names them."""
    quotes: Literal["csv", "cells", "none"] = "csv"
    """What a quote is: "csv": see the module; "cells": a cell that is quoted as a whole, within one line, loses
    its quotes, and every other quote is text; "none": text."""
    typed: bool = False
    """Whether names in the header carry a type, as RecBole's "user_id:token" does."""


CSV = Layout()
TSV = Layout(delimiter="\t", quotes="cells")
ATOMIC = Layout(delimiter="\t", quotes="none", typed=True)
_RATINGS = ("user_id", "item_id", "rating", "timestamp")
U_DATA = Layout(delimiter="\t", header=_RATINGS, quotes="none")
RATINGS_DAT = Layout(delimiter="::", header=_RATINGS, quotes="none")


class _Block(NamedTuple):
    """Whole lines of a file."""

    data: bytes
    line: int
    """Of the file, from 1, that it begins with."""
    is_last: bool


class TextSource:
    """A file of text, on the disk or in a zip. Spaces and tabs around cells that are not quoted, and around
    names, are not part of them; blank lines are skipped.

    Args:
        file: What to read.
        layout: How it is written.

    Raises:
        InputError: it can't be read, is empty, is UTF-16, ends its lines with carriage returns, or its heading
            has quotes or names that make no sense.
    """

    is_text = True

    def __init__(self, file: Traversable, layout: Layout = CSV) -> None:
        self.name = str(file)
        self._file, self._layout = file, layout
        with self._open() as stream:
            self._n_heading_lines = 0
            names = list(layout.header or self._heading(stream))
        if layout.typed:
            names = [name.rpartition(":")[0] or name for name in names]
            self.types = {}
        if twice := sorted({name for name in names if names.count(name) > 1}):
            n = names.count(twice[0])
            raise InputError(f"{self.name}: {n} columns are called {twice[0]!r}; each needs a name of its own.")
        self.schema = pa.schema([pa.field(name, pa.string()) for name in names])

    def read(self, columns: Sequence[str] | None = None) -> Iterator[Rows]:
        """See Source. Every record of the file is a row of a table, or refused, or counted as blank.

        Refused are rows with too few or too many cells, and those with text that is not UTF-8 in `columns`.

        Raises:
            InputError: the file can't be read; a quote is never closed, or text follows one that closes; a lone
                carriage return; a record of more than 64 MiB.
        """
        ...
