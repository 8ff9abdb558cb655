"""Delimited text: CSV, TSV, MovieLens' u.data and ratings.dat, RecBole's atomic files."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa
from pyarrow import csv as arrow_csv

from recsys.errors import DataError

_MAX_HEADER_BYTES = 2**20
_SAMPLE_BYTES = 2**20
# What stands for "nothing" among numbers; strings are what is written.
_NULLS = ["", "NA", "N/A", "NaN", "nan", "-nan", "-NaN", "null", "NULL", "None"]


@dataclass(frozen=True)
class TextFormat:
    """How a table is written."""

    delimiter: str = ","
    header: tuple[str, ...] | None = None
    """The columns' names where the file has none; None where its first line names them."""
    quoted: bool = True
    """Whether a double quote encloses a value that has delimiters in it."""
    typed: bool = False
    """Whether names in the header carry a type, as RecBole's "user_id:token" does."""


CSV = TextFormat()
TSV = TextFormat(delimiter="\t")
ATOMIC = TextFormat(delimiter="\t", quoted=False, typed=True)
U_DATA = TextFormat(delimiter="\t", header=("user_id", "item_id", "rating", "timestamp"), quoted=False)
# Fields of ratings.dat stand between "::", and hold digits only: as fields between ":", each second is empty.
RATINGS_DAT = TextFormat(
    delimiter=":",
    header=("user_id", "", "item_id", " ", "rating", "  ", "timestamp"),
    quoted=False,
)


@dataclass(frozen=True)
class TextTable:
    """A file of the disk or of a zip, in a format, with the names of its columns."""

    file: Traversable
    layout: TextFormat
    header: tuple[str, ...]

    @classmethod
    def of(cls, file: Traversable, layout: TextFormat) -> TextTable:
        """The table in `file`.

        Raises:
            DataError: its first line should name the columns, and does not.
        """
        return cls(file, layout, layout.header or _header(file, layout))

    @property
    def names(self) -> tuple[str, ...]:
        """The names in the header without their types."""
        if not self.layout.typed:
            return self.header
        return tuple(name.rpartition(":")[0] or name for name in self.header)

    def read(
        self,
        columns: list[str],
        types: dict[str, pa.DataType],
        *,
        malformed: list[arrow_csv.InvalidRow] | None = None,
    ) -> pa.Table:
        """Read these columns, by their names in the header, with these types; others are inferred.

        With `malformed`, rows with a wrong number of fields go there, and nothing must be UTF-8.

        Raises:
            pa.ArrowInvalid, pa.ArrowKeyError: the table is not so.
        """
        with _stream(self.file) as stream:
            return self._parse(stream, columns, types, malformed)

    def sample(self, columns: list[str], types: dict[str, pa.DataType]) -> pa.Table:
        """As `read`, but only the rows of the first MiB."""
        with self.file.open("rb") as stream:
            head = stream.read(_SAMPLE_BYTES)
        if len(head) == _SAMPLE_BYTES:
            head = head[: head.rfind(b"\n") + 1]
        return self._parse(io.BytesIO(head), columns, types, None)

    def quote(self, rows: list[int]) -> list[str]:
        """The lines of these rows, ascending from 0, as "line 7: 1,2,abc". Blank lines are no rows."""
        wanted, quoted = set(rows), []
        row = 0 if self.layout.header else -1
        with self.file.open("rb") as stream:
            for number, line in enumerate(stream, start=1):
                if not line.strip(b"\r\n"):
                    continue
                if row in wanted:
                    text = line[:200].decode("utf-8", errors="replace").rstrip("\r\n")
                    quoted.append(f"line {number}: {text}")
                    if len(quoted) == len(wanted):
                        break
                row += 1
        return quoted

    def _parse(
        self,
        stream: pa.NativeFile | BinaryIO,
        columns: list[str],
        types: dict[str, pa.DataType],
        malformed: list[arrow_csv.InvalidRow] | None,
    ) -> pa.Table:
        def skip(row: arrow_csv.InvalidRow) -> str:
            assert malformed is not None
            malformed.append(row)
            return "skip"

        explaining = malformed is not None
        return arrow_csv.read_csv(
            stream,
            read_options=arrow_csv.ReadOptions(
                column_names=list(self.header),
                skip_rows=0 if self.layout.header else 1,
                # Numbers of malformed rows are known to one thread only, and their text must decode.
                use_threads=not explaining,
                encoding="latin-1" if explaining else "utf8",
                block_size=4 * 2**20,
            ),
            parse_options=arrow_csv.ParseOptions(
                delimiter=self.layout.delimiter,
                quote_char='"' if self.layout.quoted else False,
                invalid_row_handler=skip if explaining else None,
            ),
            convert_options=arrow_csv.ConvertOptions(
                include_columns=columns,
                column_types=types,
                null_values=_NULLS,
                strings_can_be_null=False,
            ),
        )


def _header(file: Traversable, layout: TextFormat) -> tuple[str, ...]:
    with file.open("rb") as stream:
        line = stream.readline(_MAX_HEADER_BYTES).decode("utf-8-sig", errors="replace")
    names = line.rstrip("\r\n")
    if not names.strip():
        raise DataError(f"{file} is empty; its first line should name the columns.")
    if "\r" in names:
        raise DataError(f"{file}: lines end with a lone carriage return; write them with line feeds.")
    if not line.endswith("\n"):
        raise DataError(f"{file} has no ratings: nothing comes after its first line.")
    if not layout.quoted:
        return tuple(names.split(layout.delimiter))
    try:
        return tuple(next(csv.reader([names], delimiter=layout.delimiter)))
    except csv.Error as error:
        raise DataError(f"{file}: its first line names no columns ({error}): {names[:200]!r}.") from None


@contextmanager
def _stream(file: Traversable) -> Iterator[pa.NativeFile]:
    """A file of the disk is read without Python in between; a member of a zip is unpacked on the way."""
    if isinstance(file, Path):
        with pa.OSFile(str(file)) as native:
            yield native
    else:
        with file.open("rb") as member, pa.PythonFile(member, mode="r") as wrapped:
            yield wrapped
