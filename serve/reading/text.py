"""Delimited text -> rows of strings: CSV, TSV, MovieLens' u.data and ratings.dat, RecBole's atomic files.

`csv.reader(strict=True)` gives the rules: a quote opens a cell only at its beginning, is doubled within, and
nothing but a delimiter follows the one that closes. Arrow parses the blocks where it has no rules of its own:
it takes text after a closing quote as part of the cell, and counts records, not lines.
"""

from __future__ import annotations

import csv
import re
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.resources.abc import Traversable
from typing import IO, Literal, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from serve.errors import InputError
from serve.reading.rows import RefusedRow, Rows, refused_row

BLOCK_BYTES = 4 << 20
MAX_RECORD_BYTES = 64 << 20
MAX_HEADING_BYTES = 1 << 20
BLOCKS_AHEAD = 2
"""Blocks that Arrow parses in threads while the caller works on those before."""
BOM = b"\xef\xbb\xbf"
SEPARATOR = b"\x1f"
"""Stands for a delimiter of two characters, of which Arrow knows none."""


@dataclass(frozen=True)
class Layout:
    """How a table is written as text."""

    delimiter: str = ","
    header: tuple[str, ...] | None = None
    """The columns' names where the file has none; None where its first line names them."""
    quotes: Literal["csv", "cells", "none"] = "csv"
    """What a quote is: "csv": see the module; "cells": a cell of one line that is quoted as a whole loses its
    quotes, and every other quote is text; "none": text."""
    encoding: str = "utf-8"
    """ "utf-8" or a superset of ASCII with one byte a character."""
    typed: bool = False
    """Whether names in the header carry a type, as RecBole's "user_id:token" does."""


CSV = Layout()
TSV = Layout(delimiter="\t", quotes="cells")
ATOMIC = Layout(delimiter="\t", quotes="none", typed=True)


class _Block(NamedTuple):
    """Lines of a file."""

    data: bytes
    line: int
    """The line, from 1, that it begins with."""
    n_lines: int
    is_last: bool


class TextSource:
    """A file of text, on the disk or in a zip. Blanks (spaces, tabs) around names and unquoted cells are left
    out, and so are blank lines.

    Args:
        file: What to read.
        layout: How it is written.

    Raises:
        InputError: it can't be read, is empty or UTF-16, or its heading can't be read with this delimiter.
    """

    is_text = True

    def __init__(self, file: Traversable, layout: Layout = CSV) -> None:
        self.name = str(file)
        self.types: dict[str, str] = {}
        """Type of each column, as RecBole has it, where the layout is typed."""
        self._file, self._layout = file, layout
        self._blanks = " \t".replace(layout.delimiter, "")
        delimiter = re.escape(layout.delimiter)
        self._cell = re.compile(rf' *(")(?:[^"]|"")*"|[^{delimiter}]*')
        within = rf'[^"\r\n{delimiter if layout.quotes == "cells" else ""}]*'
        self._quoted_cell = re.compile(rf'(?:\A|[{delimiter}\n])"{within}"(?=[{delimiter}\r\n]|\Z)'.encode())
        self._n_heading_lines = 0
        names = list(layout.header or self._read_heading())
        if layout.typed:
            self.types = {name.partition(":")[0]: name.partition(":")[2] for name in names}
            names = [name.partition(":")[0] for name in names]
        self.schema = pa.schema([pa.field(name, pa.string()) for name in names])

    def read(self, columns: Sequence[str] | None = None) -> Iterator[Rows]:
        """See Source. Every record is a row of a table, a refusal, or counted as blank.

        Refused are rows with too few or too many cells, and rows whose cells in `columns` are not UTF-8.

        Raises:
            InputError: the file can't be read; a quote is never closed, or text follows one that closes; a
                carriage return stands alone; a record is longer than 64 MiB.
        """
        names = self.schema.names
        places = list(range(len(names))) if columns is None else [names.index(name) for name in columns]
        line = 1 + self._n_heading_lines
        ahead: deque[Future[Rows]] = deque()
        with self._open() as stream, ThreadPoolExecutor(BLOCKS_AHEAD) as pool:
            for _ in range(self._n_heading_lines):
                stream.readline()
            rest = b"" if self._n_heading_lines else self._as_utf8(stream.read(len(BOM)).removeprefix(BOM))
            is_last = False
            while not is_last:
                data = stream.read(BLOCK_BYTES)
                is_last = not data
                data = rest + self._as_utf8(data)
                cut = len(data) if is_last else data.rfind(b"\n") + 1
                block = _block(data[:cut], line, is_last)
                unfinished = b""
                if self._is_plain(block):
                    ahead.append(pool.submit(self._by_arrow, block, places))
                elif block.data:
                    while ahead:
                        yield ahead.popleft().result()
                    rows, unfinished = self._by_rules(block, places)
                    yield rows
                while len(ahead) > BLOCKS_AHEAD or (is_last and ahead):
                    yield ahead.popleft().result()
                line += block.n_lines - unfinished.count(b"\n")
                rest = unfinished + data[cut:]
                if len(rest) > MAX_RECORD_BYTES:
                    raise InputError(
                        f"{self.name}, line {line}: a record of more than {MAX_RECORD_BYTES >> 20} MiB. Is a "
                        f"quote never closed?"
                    )

    def _as_utf8(self, data: bytes) -> bytes:
        return data if self._layout.encoding == "utf-8" else data.decode(self._layout.encoding).encode()

    def _is_plain(self, block: _Block) -> bool:
        """Whether the block ends where a record does, and Arrow reads it as the rules say."""
        data = block.data
        if (
            not data
            or data.startswith(BOM)  # within a file it is text, which Arrow leaves out
            or (b"\r" in data and data.count(b"\r") != data.count(b"\r\n"))
            or (len(self._layout.delimiter) > 1 and SEPARATOR in data)
            or (len(self.schema) == 1 and any(blank.encode() in data for blank in self._blanks))
        ):
            return False
        if self._layout.quotes == "none" or b'"' not in data:
            return True
        beside = (side for blank in self._blanks for side in (f'"{blank}'.encode(), f'{blank}"'.encode()))
        return 2 * len(self._quoted_cell.findall(data)) == data.count(b'"') and not any(
            side in data for side in beside
        )

    def _by_arrow(self, block: _Block, places: list[int]) -> Rows:
        """The rows of a plain block; by the rules, if it has blank lines, or rows to refuse."""
        import pyarrow.csv as arrow_csv

        data, delimiter, names = block.data, self._layout.delimiter, [str(n) for n in range(len(self.schema))]
        if len(delimiter) > 1:
            data, delimiter = data.replace(delimiter.encode(), SEPARATOR), SEPARATOR.decode()
        try:
            table = arrow_csv.read_csv(
                pa.BufferReader(data),
                read_options=arrow_csv.ReadOptions(
                    column_names=names, use_threads=False, block_size=len(data) + 1
                ),
                parse_options=arrow_csv.ParseOptions(
                    delimiter=delimiter,
                    quote_char=False if self._layout.quotes == "none" else '"',
                    double_quote=False,
                ),
                convert_options=arrow_csv.ConvertOptions(
                    column_types=dict.fromkeys(names, pa.string()),
                    include_columns=[names[place] for place in places],
                    strings_can_be_null=False,
                ),
            )
        except (pa.ArrowInvalid, UnicodeDecodeError):
            return self._by_rules(block, places)[0]
        if len(table) != block.n_lines:  # blank lines
            return self._by_rules(block, places)[0]
        cells = table.columns
        if any(blank.encode() in data for blank in self._blanks):
            cells = [pc.ascii_trim(column, characters=self._blanks) for column in cells]
        schema = pa.schema([self.schema.field(place) for place in places])
        numbers = range(block.line, block.line + block.n_lines)
        return Rows(self.name, "line", pa.Table.from_arrays(cells, schema=schema), numbers, [])

    def _by_rules(self, block: _Block, places: list[int]) -> tuple[Rows, bytes]:
        """A block's rows, one after the other; and the beginning of a record that goes on after it."""
        lines = block.data.decode(errors="surrogateescape").split("\n")
        if not lines[-1]:
            lines.pop()
        is_utf8 = _is_utf8(block.data)
        names, heading = self.schema.names, "the layout" if self._layout.header else "the heading"
        numbers: list[int] = []
        found: list[list[str]] = []
        refused: list[RefusedRow] = []
        place, n_blank, unfinished = 0, 0, b""
        while place < len(lines):
            record = self._record(lines, place, block)
            if record is None:
                rest = "".join(line + "\n" for line in lines[place:])
                unfinished = rest.encode(errors="surrogateescape")
                break
            number, (cells, n_lines) = block.line + place, record
            place += n_lines
            if not cells:
                n_blank += 1
            elif len(cells) != len(names):
                text = _shown("\n".join(lines[place - n_lines : place]).removesuffix("\r"))
                reason = f"{len(cells)} cells where {heading} has {len(names)}"
                refused.append(refused_row(self.name, "line", number, None, reason, text))
            elif not is_utf8 and (wrong := [n for n in places if not _is_text(cells[n])]):
                value, column = _shown(cells[wrong[0]]), names[wrong[0]]
                refused.append(refused_row(self.name, "line", number, column, "not UTF-8", value))
            else:
                numbers.append(number)
                found.append(cells)
        schema = pa.schema([self.schema.field(place) for place in places])
        arrays = [pa.array([cells[place] for cells in found], pa.string()) for place in places]
        table = pa.Table.from_arrays(arrays, schema=schema)
        return Rows(self.name, "line", table, np.array(numbers, np.int64), refused, n_blank), unfinished

    def _record(self, lines: Sequence[str], place: int, block: _Block) -> tuple[list[str], int] | None:
        """The cells of the record that begins with a line, and how many lines it has. No cells: it is blank.
        None: it goes on after the block.
        """
        line, rules = lines[place].removesuffix("\r"), self._layout.quotes
        if rules == "csv" and '"' in line:
            return self._quoted(lines, place, block)
        if not line.strip(self._blanks):
            return [], 1
        if rules == "csv" and "\r" in line:
            raise self._wrong_quotes(block.line + place, "new-line character")
        cells = [cell.strip(self._blanks) for cell in line.split(self._layout.delimiter)]
        return ([_unquoted(cell) for cell in cells] if rules == "cells" else cells), 1

    def _quoted(self, lines: Sequence[str], place: int, block: _Block) -> tuple[list[str], int] | None:
        """As `_record`, for one with quotes."""
        reader = csv.reader(
            (lines[n] + "\n" for n in range(place, len(lines))),
            delimiter=self._layout.delimiter,
            skipinitialspace=True,
            strict=True,
        )
        try:
            cells = next(reader)
        except csv.Error as error:
            if "end of data" in str(error) and not block.is_last:
                return None
            raise self._wrong_quotes(block.line + place, str(error)) from None
        n_lines = reader.line_num
        if any(cell != cell.strip(self._blanks) for cell in cells):
            text, start = "\n".join(lines[place : place + n_lines]), 0
            for n, cell in enumerate(cells):
                match = self._cell.match(text, start)
                assert match is not None
                cells[n] = cell if match[1] else cell.strip(self._blanks)
                start = match.end() + 1
        return cells, n_lines

    def _wrong_quotes(self, line: int, error: str) -> InputError:
        """The refusal of the whole file: where its records begin and end can't be told any more."""
        rule = "Quotes must surround whole cells, and are doubled within them."
        reasons = {
            "end of data": f"a quote that opens a cell is never closed. {rule}",
            "expected after": f"a cell goes on after the quote that closes it. {rule}",
            "field larger": f"a quoted cell has more than {csv.field_size_limit():,} characters. {rule}",
            "new-line character": "a carriage return stands alone. Lines must end in \\n or \\r\\n.",
        }
        reason = next((reason for part, reason in reasons.items() if part in error), error)
        return InputError(f"{self.name}: in the record that begins at line {line}, {reason}")

    def _read_heading(self) -> list[str]:
        with self._open() as stream:
            data = stream.read(MAX_HEADING_BYTES)
        if data.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\0" in data[:2]:
            raise InputError(
                f"{self.name} is UTF-16, not UTF-8. Convert it: iconv -f UTF-16 -t UTF-8 OLD > NEW."
            )
        data = data.removeprefix(BOM)
        lines = data.decode(errors="surrogateescape").split("\n")
        block = _block(data, 1, is_last=True)
        names: list[str] = []
        while self._n_heading_lines < len(lines) and not names:
            record = self._record(lines, self._n_heading_lines, block)
            assert record is not None
            names = record[0]
            self._n_heading_lines += record[1]
        if not names:
            raise InputError(f"{self.name} is empty; its first line should name the columns.")
        if not _is_text("".join(names)):
            raise InputError(f"{self.name}: its heading is not UTF-8: {_shown(','.join(names))}")
        others = [mark for mark in ";\t,|" if mark != self._layout.delimiter and mark in names[0]]
        if len(names) == 1 and others:
            raise InputError(
                f"{self.name}: its heading {names[0]!r} has no {self._layout.delimiter!r} between names, but "
                f"{others[0]!r}. If cells are separated by that, say so: --delimiter {others[0]!r}"
            )
        return names

    @contextmanager
    def _open(self) -> Iterator[IO[bytes]]:
        try:
            with self._file.open("rb") as stream:
                yield stream
        except OSError as error:
            raise InputError(f"{self.name} can't be read: {error.strerror or error}.") from None


def _block(data: bytes, line: int, is_last: bool) -> _Block:
    return _Block(data, line, data.count(b"\n") + (data[-1:] not in (b"", b"\n")), is_last)


def _unquoted(cell: str) -> str:
    """What stands in a cell that is quoted as a whole; any other cell as it is."""
    if len(cell) < 2 or cell[0] != '"' or cell[-1] != '"':
        return cell
    within = cell[1:-1].replace('""', "")
    return cell if '"' in within else cell[1:-1].replace('""', '"')


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def _is_text(text: str) -> bool:
    """Whether all of it was UTF-8 (bytes that are not are surrogates here)."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _shown(text: str) -> str:
    return text.encode(errors="surrogateescape").decode(errors="backslashreplace")
