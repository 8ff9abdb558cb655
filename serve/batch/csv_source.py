"""Rows of a CSV or TSV file. Cells stay the text that they are; only ids are read as what the bundle has."""

from __future__ import annotations

import csv
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from serve.batch.records import boundaries, goes_on_after_a_quote, trimmed
from serve.batch.source import BadRow, Cut, Rows, as_text, only
from serve.errors import InputError

if TYPE_CHECKING:
    from pyarrow.csv import InvalidRow

MAX_HEADING_BYTES = 1 << 20
MAX_BATCH_BYTES = 256 << 20
BOM = b"\xef\xbb\xbf"


class CsvSource:
    """A CSV file (RFC 4180, UTF-8, a heading); tab-separated where its name ends in .tsv.

    Every column is text, so that 007 stays 007, and nothing is guessed from the first rows.

    Raises:
        InputError: no heading, or one that names a column twice.
    """

    is_text = True

    def __init__(self, path: Path) -> None:
        self._path = path
        self._delimiter = b"\t" if path.suffix.lower() == ".tsv" else b","
        with self._explained():
            names, self._body = self._heading()
            self._stop = max(self._body, trimmed(path))
        self.schema = pa.schema([pa.field(name, pa.string()) for name in names])

    def cuts(self, part_rows: int) -> Iterator[Cut]:
        """See Source. `start` and `stop` are bytes."""
        start, found = self._body, False
        with self._explained():
            for end, n_rows in boundaries(self._path, start, self._stop, part_rows, self._delimiter):
                yield Cut(start, end, n_rows)
                start, found = end, True
        if not found:
            yield Cut(start, start, 0)

    def read(
        self, start: int, stop: int, first_row: int, batch_rows: int, columns: Sequence[str] | None = None
    ) -> Generator[Rows]:
        """See Source."""
        row = first_row
        with self._explained(), self._path.open("rb") as file:
            file.seek(start)
            offset = start
            for end, n_rows in boundaries(self._path, start, stop, batch_rows, self._delimiter):
                if end - offset > MAX_BATCH_BYTES:
                    raise InputError(
                        f"{self._path}: {n_rows} records from row {row} take {end - offset:,} bytes. Lower "
                        f"--batch-rows, or look for a quote that is never closed."
                    )
                yield self._parse(file.read(end - offset), row, n_rows, only(self.schema, columns))
                offset, row = end, row + n_rows

    def _parse(self, block: bytes, first_row: int, n_rows: int, schema: pa.Schema) -> Rows:
        """One block of whole records; the columns of `schema`."""
        import pyarrow.csv as pa_csv

        wrong: list[BadRow] = []
        skipped: list[int] = []
        if (record := goes_on_after_a_quote(block, self._delimiter)) is not None:
            raise InputError(
                f"{self._path}, row {first_row + record}: a cell goes on after the quote that closes it. "
                f"Quotes must surround whole cells, and are doubled within them."
            )
        # Arrow hands a row with too many cells to `skip` as text, which fails where that is not UTF-8. Such a
        # block is parsed as Latin-1, a character for each byte, and turned back below.
        if as_latin := not _is_utf8(block):
            block = block.decode("latin-1").encode()
        elif block.startswith(BOM):  # in the middle of a file, where it is text; Arrow would leave it out
            block = BOM + block

        def skip(found: InvalidRow) -> str:
            text = found.text.encode("latin-1").decode(errors="backslashreplace") if as_latin else found.text
            skipped.append(found.number - 1)
            reason = f"{found.actual_columns} cells where the heading has {found.expected_columns}"
            wrong.append(BadRow(str(self._path), first_row + found.number - 1, None, reason, text))
            return "skip"

        names = self.schema.names
        try:
            table = pa_csv.read_csv(
                pa.BufferReader(block),
                read_options=pa_csv.ReadOptions(
                    column_names=names, use_threads=False, block_size=len(block) + 1
                ),
                parse_options=pa_csv.ParseOptions(
                    delimiter=self._delimiter.decode(),
                    newlines_in_values=True,
                    ignore_empty_lines=False,
                    invalid_row_handler=skip,
                ),
                # Bytes at first: a cell that isn't UTF-8 is one bad row, not the end of the job.
                convert_options=pa_csv.ConvertOptions(
                    column_types=dict.fromkeys(names, pa.binary()),
                    include_columns=schema.names,
                    strings_can_be_null=False,
                ),
            )
        except pa.ArrowInvalid as error:
            raise InputError(f"{self._path}, from row {first_row}: {error}") from None
        if len(table) + len(skipped) != n_rows:
            raise InputError(
                f"{self._path}: from row {first_row} there are {n_rows} lines outside quotes, but "
                f"{len(table) + len(skipped)} records. Quotes must surround whole cells, and lines must end "
                f"in \\n or \\r\\n."
            )
        numbers = np.delete(np.arange(first_row, first_row + n_rows), skipped)
        if not as_latin:
            return Rows(table.cast(schema), numbers, wrong)
        cells = [[cell.decode().encode("latin-1") for cell in column.to_pylist()] for column in table.columns]
        table = pa.table([pa.array(column, pa.binary()) for column in cells], schema.names)
        return as_text(str(self._path), Rows(table, numbers, wrong), schema)

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise InputError(f"{self._path} can't be read: {error.strerror or error}.") from None

    def _heading(self) -> tuple[list[str], int]:
        """Column names, and the offset of the first row."""
        with self._path.open("rb") as file:
            start = len(BOM) if file.read(len(BOM)) == BOM else 0
            file.seek(0)
            beginning = file.read(MAX_HEADING_BYTES)
        try:
            end, _ = next(boundaries(self._path, start, len(beginning), 1, self._delimiter), (0, 0))
            line = beginning[start:end].decode()
            if goes_on_after_a_quote(beginning[start:end], self._delimiter) is not None:
                raise InputError(
                    f"{self._path}: its heading can't be read: a name goes on after the quote that closes it."
                )
        except UnicodeDecodeError as error:
            raise InputError(f"{self._path}: its heading is not UTF-8 ({error.reason}).") from None
        try:
            names: list[Any] = next(csv.reader([line.rstrip("\r\n")], delimiter=self._delimiter.decode()), [])
        except csv.Error as error:
            raise InputError(
                f"{self._path}: its heading can't be read ({error}). Lines must end in \\n or \\r\\n."
            ) from None
        if not names:
            raise InputError(f"{self._path} is empty: its first line must name its columns.")
        return names, end


def _is_utf8(value: bytes) -> bool:
    try:
        value.decode()
    except UnicodeDecodeError:
        return False
    return True
