"""One part of the output: written beside its place, checked, synced, renamed."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, Literal, Protocol

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from serve.errors import InputError, JobError
from serve.files.atomic import fsync, write_behind

Format = Literal["parquet", "csv", "jsonl"]

# What a spreadsheet would run as a formula, unless it is a plain number.
FORMULA = r"^[=+\-@\t\r\n]"
NUMBER = r"^[+-]?[0-9]+([.,][0-9]+)?([eE][+-]?[0-9]+)?$"

# What Arrow writes for a time that is in no calendar.
NO_TIME = "<value out of range"

# In memory. Every row group begins its dictionaries anew, so those of a single batch took a fifth longer to
# encode, and are small for who reads them.
ROW_GROUP_BYTES = 8 << 20

# Of a part, before the system is asked to write it. All at the end would be a wait of some 13 ms.
BEHIND_BYTES = 4 << 20

# Read at once to count the rows of a part; a record of CSV must fit.
CHUNK_BYTES = 16 << 20

# Of the columns that are added, those that are not worth a dictionary and a range: scores hardly ever come
# twice, and lie in no order; `known` is a bit.
PLAIN = ("score", "scores", "known")


class Writer(Protocol):
    """Takes tables of one schema, in order."""

    def write(self, table: pa.Table) -> None:
        """Append the rows."""

    def close(self) -> None:
        """Write what is left to write."""


@contextmanager
def new_part(path: Path, format: Format, schema: pa.Schema) -> Iterator[Writer]:
    """Give a writer, and make what it wrote `path` when the block ends without an error.

    Raises:
        JobError: not writable, or the disk is full; `path` is then as it was.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        with temporary.open("xb") as file:
            counted = _Counted(WRITERS[format](file, schema), file)
            try:
                yield counted
            except BaseException:
                with suppress(OSError):  # the disk may be full, which is why we are here
                    counted.close()
                raise
            counted.close()
        found = count_rows(temporary, format)
        if found != counted.n_rows:
            raise JobError(f"{temporary} holds {found} rows after {counted.n_rows} were written to it.")
        fsync(temporary)
        temporary.replace(path)
        fsync(path.parent)
    except OSError as error:
        reason = error.strerror or str(error)
        raise JobError(f"{path} can't be written: {reason}. What is finished is kept.") from error
    finally:
        temporary.unlink(missing_ok=True)


def check_format(format: Format, schema: pa.Schema) -> None:
    """Refuse columns that a format can't hold.

    Raises:
        InputError: there are such.
    """
    for field in schema:
        if format == "csv" and not _fits_csv(field.type):
            raise InputError(
                f"CSV can't hold the column {field.name}, which is {field.type}. Write --format parquet or "
                f"jsonl, or leave it out of the input."
            )
        if format == "jsonl" and not _fits_json(field.type):
            raise InputError(
                f"JSON lines can't hold the column {field.name}, which is {field.type}. Write --format "
                f"parquet, convert it (times to microseconds), or leave it out of the input."
            )


def count_rows(path: Path, format: Format) -> int:
    """Rows of a part, as a reader finds them."""
    if format == "parquet":
        import pyarrow.parquet as pq

        return int(pq.read_metadata(path).num_rows)
    if format == "csv":
        return _count_records(path) - 1
    with path.open("rb") as file:
        return sum(chunk.count(b"\n") for chunk in iter(lambda: file.read(CHUNK_BYTES), b""))


def _count_records(path: Path) -> int:
    import pyarrow.csv as pa_csv

    reader = pa_csv.open_csv(
        path,
        read_options=pa_csv.ReadOptions(autogenerate_column_names=True, block_size=CHUNK_BYTES),
        parse_options=pa_csv.ParseOptions(newlines_in_values=True),
        convert_options=pa_csv.ConvertOptions(include_columns=["f0"], column_types={"f0": pa.binary()}),
    )
    return sum(len(batch) for batch in reader)


class _Counted:
    def __init__(self, writer: Writer, file: BinaryIO) -> None:
        self.n_rows = 0
        self._writer = writer
        self._file = file
        self._on_its_way = 0

    def write(self, table: pa.Table) -> None:
        self.n_rows += len(table)
        self._writer.write(table)
        if (size := self._file.tell()) > self._on_its_way + BEHIND_BYTES:
            write_behind(self._file, self._on_its_way)
            self._on_its_way = size

    def close(self) -> None:
        self._writer.close()


class _Parquet:
    def __init__(self, file: BinaryIO, schema: pa.Schema) -> None:
        import pyarrow.parquet as pq

        repeating = _repeating(schema)
        self._writer = pq.ParquetWriter(
            file,
            schema,
            version="2.6",
            compression="snappy",
            use_dictionary=repeating,
            write_statistics=repeating,
        )

        self._held: list[pa.Table] = []
        self._held_bytes = 0

    def write(self, table: pa.Table) -> None:
        self._held.append(table)
        self._held_bytes += table.nbytes
        if self._held_bytes >= ROW_GROUP_BYTES:
            self._write_group()

    def _write_group(self) -> None:
        group = pa.concat_tables(self._held)
        self._held, self._held_bytes = [], 0
        if len(group):
            self._writer.write_table(group, row_group_size=len(group))

    def close(self) -> None:
        try:
            if self._held:
                self._write_group()
            self._writer.close()
        finally:
            self._writer.is_open = False  # or it tries again when it is collected


class _Csv:
    def __init__(self, file: BinaryIO, schema: pa.Schema) -> None:
        import pyarrow.csv as pa_csv

        names = pa.array(schema.names, pa.string())
        self._schema = pa.schema(
            [
                pa.field(name, _plain(field.type))
                for name, field in zip(harmless(names).to_pylist(), schema, strict=True)
            ]
        )
        self._writer = pa_csv.CSVWriter(file, self._schema)

    def write(self, table: pa.Table) -> None:
        plain = [column.cast(field.type) for column, field in zip(table.columns, self._schema, strict=True)]
        for name, column in zip(table.schema.names, plain, strict=True):
            _check_times(name, column)
        columns = [harmless(column) if pa.types.is_string(column.type) else column for column in plain]
        self._writer.write_table(pa.Table.from_arrays(columns, schema=self._schema))

    def close(self) -> None:
        self._writer.close()


class _JsonLines:
    def __init__(self, file: BinaryIO, schema: pa.Schema) -> None:
        self._file = file
        self._encode = msgspec.json.Encoder(decimal_format="number").encode_lines

    def write(self, table: pa.Table) -> None:
        columns = {}
        for name, column in zip(table.schema.names, table.columns, strict=True):
            try:
                columns[name] = column.to_pylist()
            except OverflowError as error:  # Python's calendar ends with the year 9999
                raise InputError(
                    f"JSON lines can't hold a value of {name}: {error}. Write parquet, or correct it."
                ) from None
        rows = (dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True))
        self._file.write(self._encode(rows))

    def close(self) -> None:
        self._file.flush()


WRITERS: dict[Format, Callable[[BinaryIO, pa.Schema], Writer]] = {
    "parquet": _Parquet,
    "csv": _Csv,
    "jsonl": _JsonLines,
}


def harmless(text: pa.Array) -> pa.Array:
    """Cells that a spreadsheet shows rather than runs: an apostrophe before what would be a formula."""
    formula = pc.and_(
        pc.match_substring_regex(text, FORMULA), pc.invert(pc.match_substring_regex(text, NUMBER))
    )
    if not pc.any(formula).as_py():
        return text
    return pc.if_else(formula, pc.binary_join_element_wise("'", text, ""), text)


def _repeating(schema: pa.Schema) -> list[str]:
    """Columns, as Parquet names them, that are worth a dictionary and a range."""
    paths = []
    for field in schema:
        nested = ".list.element" if pa.types.is_list(field.type) else ""
        if field.name not in PLAIN:
            paths.append(field.name + nested)
    return paths


def _check_times(name: str, column: pa.ChunkedArray) -> None:
    """Refuse times that Arrow has no text for: it would say so in the cell, and go on.

    Raises:
        InputError: there are such.
    """
    if not pa.types.is_temporal(column.type) or pa.types.is_duration(column.type):
        return
    if pa.types.is_timestamp(column.type):
        column = column.cast(pa.timestamp(column.type.unit))  # in a zone, it would begin anew
    text = column.cast(pa.string())
    wrong = text.filter(pc.starts_with(text, NO_TIME))
    if len(wrong):
        value = wrong[0].as_py().removeprefix(NO_TIME).strip(": >")
        raise InputError(
            f"CSV can't hold {name} {value}, a {column.type} outside the years that text can express. Write "
            f"parquet, or correct it."
        )


def _plain(kind: pa.DataType) -> pa.DataType:
    """What a column is written to CSV as: text as text, whatever Arrow holds it in."""
    is_text = pa.types.is_string_view(kind) or pa.types.is_large_string(kind)
    return pa.string() if is_text else kind


def _fits_csv(kind: pa.DataType) -> bool:
    import pyarrow.csv as pa_csv

    kind = _plain(kind)
    if not _knows_zone(kind):
        return False
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind):
        return False  # written as if it were text, and not escaped
    schema = pa.schema([pa.field("column", kind)])
    try:
        with pa_csv.CSVWriter(pa.BufferOutputStream(), schema) as writer:
            writer.write_table(schema.empty_table())
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        return False
    return True


def _fits_json(kind: pa.DataType) -> bool:
    """Whether Python has such a value: it has no nanoseconds."""
    types = pa.types
    if types.is_timestamp(kind) or types.is_time64(kind) or types.is_duration(kind):
        return bool(kind.unit != "ns") and _knows_zone(kind)
    if types.is_dictionary(kind):
        return _fits_json(kind.value_type)
    if types.is_nested(kind):
        fields = [kind.field(place) for place in range(kind.num_fields)]
        names = {field.name for field in fields}
        return len(names) == len(fields) and all(_fits_json(field.type) for field in fields)
    return not isinstance(kind, pa.BaseExtensionType) and not types.is_interval(kind)


def _knows_zone(kind: pa.DataType) -> bool:
    """Whether a time's zone, if it has one, is known here: what can be written depends on it."""
    if not pa.types.is_timestamp(kind) or kind.tz is None:
        return True
    try:
        pa.scalar(0, kind).cast(pa.string())
        pa.scalar(0, pa.timestamp("s", kind.tz)).as_py()
    except (pa.ArrowInvalid, LookupError, ValueError):
        return False
    return True
