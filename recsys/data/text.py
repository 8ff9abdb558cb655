"""Ratings out of delimited text: CSV, TSV, MovieLens' u.data and ratings.dat, RecBole's atomic files."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import BinaryIO, NoReturn

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv as arrow_csv

from recsys.data.columns import Columns
from recsys.data.ratings_table import SHOWN, RatingsTable, Source, checked, refuse
from recsys.errors import DataError

_NUMBER = r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?"
_DATE = r"\d{4}-\d{2}-\d{2}([ T]\d{2}:\d{2}.*)?"
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


def read_ratings(file: Traversable, layout: TextFormat, columns: Columns) -> RatingsTable:
    """Read a table of ratings; blank lines don't count.

    Ids that are all whole numbers become int64 ("007" is 7), others stay the strings that they are.
    Timestamps are seconds since 1970 or ISO dates.

    Raises:
        DataError: an empty file, missing columns, a row with too few or too many fields, or anything
            that `checked` refuses; with the count, the first offending rows and the way out.
    """
    header = layout.header or _header(file, layout)
    bare = tuple(name.rpartition(":")[0] or name for name in header) if layout.typed else header
    found = columns.resolve(bare, str(file))
    names = {role: header[bare.index(name)] for role, name in found.items()}
    source = Source(str(file), lambda rows: _quote(file, layout, rows))
    try:
        table = _table(file, layout, names)
    except pa.ArrowInvalid as error:
        _explain(file, layout, names, source, error)
    if "timestamp" in names and pa.types.is_string(table.schema.field(names["timestamp"]).type):
        _explain(file, layout, names, source, None)
    return checked({role: table[name] for role, name in names.items()}, source)


def _table(file: Traversable, layout: TextFormat, names: dict[str, str]) -> pa.Table:
    """The columns `names`, typed as their first rows are, or, where later ones differ, as all rows allow.

    Arrow infers types from all rows, but holds the whole text in memory for it.
    """
    rating = {names["rating"]: pa.float32()}
    with file.open("rb") as stream:
        head = stream.read(2**20)
    if len(head) == 2**20:
        head = head[: head.rfind(b"\n") + 1]
    types = _types(_parse(io.BytesIO(head), layout, names, rating), names)
    try:
        return _read(file, layout, names, types)
    except pa.ArrowInvalid:
        types = _types(_read(file, layout, names, rating), names)
        return _read(file, layout, names, types)


def _types(table: pa.Table, names: dict[str, str]) -> dict[str, pa.DataType]:
    """The table's types, with string for ids that are no integers (1.5, a date, true): an id is what is
    written.
    """
    types = {field.name: field.type for field in table.schema if not pa.types.is_null(field.type)}
    for role in ("user", "item"):
        if names[role] in types and not pa.types.is_int64(types[names[role]]):
            types[names[role]] = pa.string()
    return types


def read_columns(file: Traversable, layout: TextFormat, types: dict[str, pa.DataType]) -> pa.Table:
    """Read the named columns of a small table, UTF-8; the types say how, pa.null() infers.

    Raises:
        DataError: the table can't be read so.
    """
    wanted = {name: kind for name, kind in types.items() if not pa.types.is_null(kind)}
    try:
        return _read(file, layout, {name: name for name in types}, wanted)
    except (pa.ArrowInvalid, pa.ArrowKeyError) as error:
        raise DataError(f"{file}: {error}") from None


def header_of(file: Traversable, layout: TextFormat) -> tuple[str, ...]:
    """The names in the first line, as they are written."""
    return _header(file, layout)


@contextmanager
def _stream(file: Traversable) -> Iterator[pa.NativeFile]:
    """A file of the disk is read without Python in between; a member of a zip is unpacked on the way."""
    if isinstance(file, Path):
        with pa.OSFile(str(file)) as native:
            yield native
    else:
        with file.open("rb") as member, pa.PythonFile(member, mode="r") as wrapped:
            yield wrapped


def _header(file: Traversable, layout: TextFormat) -> tuple[str, ...]:
    with file.open("rb") as stream:
        line = stream.readline(2**20).decode("utf-8-sig", errors="replace").rstrip("\r\n")
    if not line.strip():
        raise DataError(f"{file} is empty; its first line should name the columns.")
    if not layout.quoted:
        return tuple(line.split(layout.delimiter))
    return tuple(next(csv.reader([line], delimiter=layout.delimiter)))


def _read(
    file: Traversable,
    layout: TextFormat,
    names: dict[str, str],
    types: dict[str, pa.DataType],
    malformed: list[arrow_csv.InvalidRow] | None = None,
) -> pa.Table:
    with _stream(file) as stream:
        return _parse(stream, layout, names, types, malformed)


def _parse(
    stream: pa.NativeFile | BinaryIO,
    layout: TextFormat,
    names: dict[str, str],
    types: dict[str, pa.DataType],
    malformed: list[arrow_csv.InvalidRow] | None = None,
) -> pa.Table:
    """The columns `names`; where `malformed` is given, rows with a wrong number of fields go there."""

    def skip(row: arrow_csv.InvalidRow) -> str:
        assert malformed is not None
        malformed.append(row)
        return "skip"

    return arrow_csv.read_csv(
        stream,
        read_options=arrow_csv.ReadOptions(
            column_names=list(layout.header) if layout.header else None,
            # Numbers of malformed rows are known to one thread only.
            use_threads=malformed is None,
            block_size=4 * 2**20,
        ),
        parse_options=arrow_csv.ParseOptions(
            delimiter=layout.delimiter,
            quote_char='"' if layout.quoted else False,
            invalid_row_handler=skip if malformed is not None else None,
        ),
        convert_options=arrow_csv.ConvertOptions(
            include_columns=list(names.values()),
            column_types=types,
            null_values=_NULLS,
            strings_can_be_null=False,
        ),
    )


def _explain(
    file: Traversable, layout: TextFormat, names: dict[str, str], source: Source, error: Exception | None
) -> NoReturn:
    """Read the file once more, as text, to find the rows that could not be read as ratings."""
    malformed: list[arrow_csv.InvalidRow] = []
    try:
        table = _read(file, layout, names, dict.fromkeys(names.values(), pa.binary()), malformed)
    except pa.ArrowInvalid as fault:
        raise DataError(f"{file}: {fault}") from None
    if malformed:
        first = "\n  ".join(
            f"line {row.number}: {row.actual_columns} fields, not {row.expected_columns}: {row.text[:200]}"
            for row in malformed[:SHOWN]
        )
        raise DataError(
            f"{file}: {len(malformed):,} malformed rows:\n  {first}\nCorrect or remove these rows."
        )
    bad = _unlike(_NUMBER, table[names["rating"]])
    refuse(bad, "ratings are no finite number", "Correct or remove these rows", source)
    if "timestamp" in names:
        way_out = "Correct these rows, or leave the column out with --timestamp-column ''"
        times = table[names["timestamp"]]
        refuse(_unlike(f"{_NUMBER}|{_DATE}", times), "timestamps are no time", way_out, source)
        refuse(_unlike(_DATE, times), "timestamps are no dates, where others are", way_out, source)
    raise DataError(f"{file}: {error}. Text must be UTF-8.")


def _unlike(pattern: str, values: pa.ChunkedArray) -> pa.ChunkedArray:
    """Bool [n]: whether the whole of a value, spaces around it aside, does not match."""
    return pc.invert(pc.match_substring_regex(values, rf"^\s*({pattern})\s*$"))


def _quote(file: Traversable, layout: TextFormat, rows: list[int]) -> list[str]:
    """Lines of the file by row number; blank lines and the header are no rows."""
    wanted, quoted = iter(rows), []
    sought, row = next(wanted), 0 if layout.header else -1
    with file.open("rb") as stream:
        lines = io.BufferedReader(stream) if isinstance(stream, io.RawIOBase) else stream
        for number, line in enumerate(lines, start=1):
            if not line.strip(b"\r\n"):
                continue
            if row == sought:
                text = line[:200].decode("utf-8", errors="replace").rstrip("\r\n")
                quoted.append(f"line {number}: {text}")
                sought = next(wanted, -2)
                if sought == -2:
                    break
            row += 1
    return quoted
