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

from serve.atomic import fsync
from serve.batch.records import count_records
from serve.errors import InputError, JobError

Format = Literal["parquet", "csv", "jsonl"]

# What a spreadsheet would run as a formula, unless it is a plain number.
FORMULA = r"^[=+\-@\t\r]"
NUMBER = r"^[+-]?[0-9]+([.,][0-9]+)?([eE][+-]?[0-9]+)?$"


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
            counted = _Counted(WRITERS[format](file, schema))
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
        if isinstance(error, InputError | JobError):
            raise
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
        kind = field.type
        if format == "csv" and (pa.types.is_nested(kind) or pa.types.is_binary(kind)):
            raise InputError(
                f"CSV can't hold the column {field.name}, which is {kind}. Write --format parquet or jsonl, "
                f"or leave it out of the input."
            )


def count_rows(path: Path, format: Format) -> int:
    """Rows of a part, as a reader finds them."""
    if format == "parquet":
        import pyarrow.parquet as pq

        return int(pq.read_metadata(path).num_rows)
    return count_records(path) - (format == "csv")


class _Counted:
    def __init__(self, writer: Writer) -> None:
        self.n_rows = 0
        self._writer = writer

    def write(self, table: pa.Table) -> None:
        self.n_rows += len(table)
        self._writer.write(table)

    def close(self) -> None:
        self._writer.close()


class _Parquet:
    def __init__(self, file: BinaryIO, schema: pa.Schema) -> None:
        import pyarrow.parquet as pq

        self._writer = pq.ParquetWriter(file, schema, version="2.6", compression="snappy")

    def write(self, table: pa.Table) -> None:
        if len(table):
            self._writer.write_table(table, row_group_size=len(table))

    def close(self) -> None:
        try:
            self._writer.close()
        finally:
            self._writer.is_open = False  # or it tries again when it is collected


class _Csv:
    def __init__(self, file: BinaryIO, schema: pa.Schema) -> None:
        import pyarrow.csv as pa_csv

        names = pa.array(schema.names, pa.string())
        renamed = pa.schema(
            [
                pa.field(name, field.type)
                for name, field in zip(harmless(names).to_pylist(), schema, strict=True)
            ]
        )
        self._names = renamed.names
        self._writer = pa_csv.CSVWriter(file, renamed)

    def write(self, table: pa.Table) -> None:
        columns = [harmless(column) if _is_text(column.type) else column for column in table.columns]
        self._writer.write_table(pa.Table.from_arrays(columns, names=self._names))

    def close(self) -> None:
        self._writer.close()


class _JsonLines:
    def __init__(self, file: BinaryIO, schema: pa.Schema) -> None:
        self._file = file
        self._encode = msgspec.json.Encoder(decimal_format="number").encode_lines

    def write(self, table: pa.Table) -> None:
        self._file.write(self._encode(table.to_pylist()))

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


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))
