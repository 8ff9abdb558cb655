"""Delimited text -> rows of strings: CSV, TSV, MovieLens' u.data and ratings.dat, RecBole's atomic files.

The rules are those of `csv.reader(strict=True)`: a quote opens a cell only at its beginning, is doubled
within it, and only a delimiter may follow the closing quote. Arrow, which is faster, reads the blocks for
which it has the same rules: it accepts text after a closing quote, and counts records, not lines.
"""

from __future__ import annotations

import csv
import re
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from importlib.resources.abc import Traversable
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from serve.errors import InputError
from serve.reading.cells import BLANKS
from serve.reading.compressed import opened
from serve.reading.lines import BLOCK_BYTES, BOM, MAX_RECORD_BYTES, NOT_UTF8, check_utf8, shown
from serve.reading.misread import check_delimiter
from serve.reading.rows import RefusedRow, Rows, refused_row

MAX_HEADING_BYTES = 1 << 20
BLOCKS_AHEAD = 2
"""Blocks that Arrow parses in threads while the caller works on earlier ones."""
SEPARATOR = b"\x1f"
"""Replaces a delimiter of two characters, which neither parser supports."""
_REASONS = {
    "end of data": "a quote that opens a cell is never closed",
    "expected after": "a cell goes on after the quote that closes it",
    "field larger": f"a quoted cell has more than {csv.field_size_limit():,} characters",
    "new-line": "a carriage return stands alone",
}
"""Part of the message of a csv.Error -> the message here."""


@dataclass(frozen=True)
class Layout:
    """How a table is written as text."""

    delimiter: str = ","
    header: tuple[str, ...] | None = None
    """Names of the columns; None: the first line names them."""
    quotes: Literal["csv", "cells", "none"] = "csv"
    """Meaning of a quote. "csv": see the module. "cells": a cell that is quoted as a whole loses its quotes,
    and every other quote is text. "none": every quote is text."""
    encoding: str = "utf-8"
    """ "utf-8" or a superset of ASCII with one byte per character."""
    typed: bool = False
    """Whether names in the header carry a type, as RecBole's "user_id:token" does."""


CSV = Layout()
TSV = Layout(delimiter="\t", quotes="cells")
ATOMIC = Layout(delimiter="\t", quotes="none", typed=True)


class TextSource:
    """A text file, on disk or in a zip. Blanks (spaces, tabs) around cells and blank lines are left out.

    Raises InputError: it can't be read, is empty or no UTF-8 text, or its heading can't be read with this
    delimiter.
    """

    is_text = True

    def __init__(self, file: Traversable, layout: Layout = CSV) -> None:
        self.name = str(file)
        self.types: dict[str, str] = {}
        """RecBole's type of each column, in a typed layout."""
        self._file, self._layout = file, layout
        self._delimiter = layout.delimiter if len(layout.delimiter) == 1 else SEPARATOR.decode()
        self._blanks = BLANKS.replace(self._delimiter, "")
        delimiter = re.escape(self._delimiter)
        within = rf'[^"\r\n{delimiter if layout.quotes == "cells" else ""}]*'
        self._quoted_cell = re.compile(rf'(?:\A|[{delimiter}\n])"{within}"(?=[{delimiter}\r\n]|\Z)'.encode())
        self._n_heading_lines = 0
        self._heading = b""
        names = list(layout.header or self._read_heading())
        self._heading_cells = names
        if layout.typed:
            self.types = {name.partition(":")[0]: name.partition(":")[2] for name in names}
            names = [name.partition(":")[0] for name in names]
        self.schema = pa.schema([pa.field(name, pa.string()) for name in names])

    def read(self, columns: Sequence[str] | None = None) -> Iterator[Rows]:
        """See `Source.read`. Every record becomes a row of a table or a refusal, or is counted as blank.

        Refused are rows with too few or too many cells, rows that repeat the heading, and rows whose cells in
        `columns` are not UTF-8 or, where quotes can't surround them, hold a carriage return.

        Raises:
            InputError: the file can't be read; a quote is never closed, or text follows the closing quote; a
                carriage return stands alone; a record is longer than 64 MiB.
        """
        names = self.schema.names
        places = list(range(len(names))) if columns is None else [names.index(name) for name in columns]
        line = 1 + self._n_heading_lines
        ahead: deque[Future[Rows]] = deque()
        with opened(self._file) as stream, ThreadPoolExecutor(BLOCKS_AHEAD) as pool:
            for _ in range(self._n_heading_lines):
                stream.readline()
            rest = b"" if self._n_heading_lines else self._as_utf8(stream.read(len(BOM)).removeprefix(BOM))
            is_last = False
            while not is_last:
                data = stream.read(BLOCK_BYTES)
                is_last = not data
                data = rest + self._as_utf8(data)
                cut = len(data) if is_last else data.rfind(b"\n") + 1
                block, rest = data[:cut], data[cut:]
                if len(self._layout.delimiter) > 1:
                    block = block.replace(self._layout.delimiter.encode(), SEPARATOR)
                unfinished = b""
                if self._is_plain(block):
                    ahead.append(pool.submit(self._by_arrow, block, line, places))
                elif block:
                    while ahead:
                        yield ahead.popleft().result()
                    rows, unfinished = self._by_rules(block, line, places, is_last)
                    yield rows
                while len(ahead) > BLOCKS_AHEAD or (is_last and ahead):
                    yield ahead.popleft().result()
                line += _n_lines(block) - unfinished.count(b"\n")
                rest = unfinished + rest
                if len(rest) > MAX_RECORD_BYTES:
                    raise InputError(
                        f"{self.name}, line {line}: a record of more than {MAX_RECORD_BYTES >> 20} MiB. Is a "
                        f"quote never closed?"
                    )

    def _as_utf8(self, data: bytes) -> bytes:
        return data if self._layout.encoding == "utf-8" else data.decode(self._layout.encoding).encode()

    def _is_plain(self, data: bytes) -> bool:
        """Whether a block ends with a whole record, and Arrow reads it by the same rules."""
        if (
            not data
            or data.startswith(BOM)  # within a file it is text, which Arrow leaves out
            or (b"\r" in data and data.count(b"\r") != data.count(b"\r\n"))
            or (self._heading and (data.startswith(self._heading) or b"\n" + self._heading in data))
            or (len(self.schema) == 1 and any(blank.encode() in data for blank in self._blanks))
        ):
            return False
        if self._layout.quotes == "none" or b'"' not in data:
            return True
        return 2 * len(self._quoted_cell.findall(data)) == data.count(b'"')

    def _by_arrow(self, data: bytes, line: int, places: list[int]) -> Rows:
        """The rows of a plain block. A block with blank lines or refused rows is left to `_by_rules`."""
        import pyarrow.csv as arrow_csv

        names = [str(n) for n in range(len(self.schema))]
        try:
            table = arrow_csv.read_csv(
                pa.BufferReader(data),
                read_options=arrow_csv.ReadOptions(
                    column_names=names, use_threads=False, block_size=len(data) + 1
                ),
                parse_options=arrow_csv.ParseOptions(
                    delimiter=self._delimiter,
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
            return self._by_rules(data, line, places, is_last=True)[0]
        if len(table) != _n_lines(data):
            return self._by_rules(data, line, places, is_last=True)[0]
        cells = table.columns
        if any(blank.encode() in data for blank in self._blanks):
            cells = [pc.ascii_trim(column, characters=self._blanks) for column in cells]
        return self._rows(places, cells, range(line, line + len(table)), [])

    def _by_rules(self, data: bytes, line: int, places: list[int], is_last: bool) -> tuple[Rows, bytes]:
        """A block's rows, one by one; and the beginning of a record that continues after the block."""
        text = data.decode(errors="surrogateescape")
        lines = text.split("\n")
        if not lines[-1]:
            lines.pop()
        is_utf8 = not NOT_UTF8.search(text)
        names, heading = self.schema.names, "the layout" if self._layout.header else "the heading"
        numbers: list[int] = []
        found: list[list[str]] = []
        refused: list[RefusedRow] = []
        place, n_blank, unfinished = 0, 0, b""
        n_within, first_within = 0, None
        while place < len(lines):
            record = self._record(lines, place, line, is_last)
            if record is None:
                unfinished = ("\n".join(lines[place:]) + "\n").encode(errors="surrogateescape")
                break
            number, (cells, n_lines) = line + place, record
            place += n_lines
            if n_lines > 1:
                n_within += n_lines - 1
                first_within = first_within or number
            if not cells:
                n_blank += 1
            elif len(cells) != len(names):
                whole = "\n".join(lines[place - n_lines : place]).removesuffix("\r")
                whole = shown(whole.replace(SEPARATOR.decode(), self._layout.delimiter))
                reason = f"{len(cells)} cells where {heading} has {len(names)}"
                refused.append(refused_row(self.name, "line", number, None, reason, whole))
            elif self._heading and cells == self._heading_cells:
                whole = shown(self._layout.delimiter.join(cells))
                refused.append(refused_row(self.name, "line", number, None, "the heading again", whole))
            elif not is_utf8 and (wrong := [n for n in places if NOT_UTF8.search(cells[n])]):
                value, column = shown(cells[wrong[0]]), names[wrong[0]]
                refused.append(refused_row(self.name, "line", number, column, "not UTF-8", value))
            elif self._layout.quotes != "csv" and (wrong := [n for n in places if "\r" in cells[n]]):
                value, column = cells[wrong[0]], names[wrong[0]]
                refused.append(refused_row(self.name, "line", number, column, _REASONS["new-line"], value))
            else:
                numbers.append(number)
                found.append(cells)
        arrays = [pa.array([cells[place] for cells in found], pa.string()) for place in places]
        rows = self._rows(places, arrays, np.array(numbers, np.int64), refused, n_blank)
        return rows._replace(n_within=n_within, first_within=first_within), unfinished

    def _rows(
        self,
        places: list[int],
        cells: list[pa.Array],
        numbers: np.ndarray | range,
        refused: list[RefusedRow],
        n_blank: int = 0,
    ) -> Rows:
        schema = pa.schema([self.schema.field(place) for place in places])
        return Rows(self.name, "line", pa.Table.from_arrays(cells, schema=schema), numbers, refused, n_blank)

    def _record(
        self, lines: Sequence[str], place: int, first_line: int, is_last: bool
    ) -> tuple[list[str], int] | None:
        """Cells (none: a blank line) and number of lines of a record; None: it continues after the block."""
        line, rules, n_lines = lines[place].rstrip("\r"), self._layout.quotes, 1
        if not line.strip(self._blanks):
            return [], 1
        if rules == "csv" and ('"' in line or "\r" in line):
            reader = csv.reader(
                (lines[n] + "\n" for n in range(place, len(lines))),
                delimiter=self._delimiter,
                skipinitialspace=True,
                strict=True,
            )
            try:
                cells = next(reader)
            except csv.Error as error:
                if "end of data" in str(error) and not is_last:
                    return None
                reason = next((shown for part, shown in _REASONS.items() if part in str(error)), error)
                raise InputError(
                    f"{self.name}: in the record that begins at line {first_line + place}, {reason}. Quotes "
                    f"surround whole cells and are doubled within them. Lines must end in \\n or \\r\\n."
                ) from None
            n_lines = reader.line_num
        else:
            cells = line.split(self._delimiter)
        cells = [cell.strip(self._blanks) for cell in cells]
        return (
            [_unquoted(cell).strip(self._blanks) for cell in cells] if rules == "cells" else cells
        ), n_lines

    def _read_heading(self) -> list[str]:
        with opened(self._file) as stream:
            data = stream.read(MAX_HEADING_BYTES)
        check_utf8(data, self.name)
        lines = data.removeprefix(BOM).decode(errors="surrogateescape").split("\n")
        check_delimiter(next((line for line in lines if line.strip()), ""), self._layout.delimiter, self.name)
        names: list[str] = []
        while self._n_heading_lines < len(lines) and not names:
            record = self._record(lines, self._n_heading_lines, 1, is_last=True)
            assert record is not None
            names = record[0]
            self._n_heading_lines += record[1]
        if not names:
            raise InputError(f"{self.name} is empty; its first line should name the columns.")
        if "\r" in "".join(names):
            raise InputError(
                f"{self.name}: in its heading, {_REASONS['new-line']}. Lines must end in \\n or \\r\\n."
            )
        if len(heading := lines[self._n_heading_lines - 1].rstrip("\r")) > 1:
            self._heading = heading.encode(errors="surrogateescape")
        if NOT_UTF8.search("".join(names)):
            raise InputError(f"{self.name}: its heading is not UTF-8: {shown(','.join(names))}")
        return names


def _n_lines(data: bytes) -> int:
    return data.count(b"\n") + (data[-1:] not in (b"", b"\n"))


def _unquoted(cell: str) -> str:
    """The text of a cell that is quoted as a whole; any other cell unchanged."""
    if len(cell) < 2 or cell[0] != '"' or cell[-1] != '"' or '"' in cell[1:-1].replace('""', ""):
        return cell
    return cell[1:-1].replace('""', '"')
