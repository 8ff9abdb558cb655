"""One part of the output: written to a temporary file, synced, and renamed into place."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import BinaryIO, Literal

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from serve.errors import FullDiskError, InputError, JobError
from serve.files.atomic import new_file, write_behind

Format = Literal["parquet", "csv", "jsonl"]
Write = Callable[[pa.Table], None]
"""Appends the rows of a table."""

# Text that a spreadsheet may run as a formula, unless it is a plain number: = + - @, also in the full and
# small widths that spreadsheets take for them, after any spaces and invisible characters, which they may
# drop; and text that begins with an invisible character.
FORMULA = (
    r"^([\p{Z}\p{C}]*[=+\-@\x{FF1D}\x{FF0B}\x{FF0D}\x{FF20}\x{FE66}\x{FE62}\x{FE63}\x{FE6B}]|[\p{Cc}\p{Cf}])"
)
NUMBER = r"^[+-]?[0-9]+([.,][0-9]+)?([eE][+-]?[0-9]+)?$"

# What Arrow writes for a time outside its calendar.
NO_TIME = "<value out of range"

# Size of a row group in memory. Each has dictionaries of its own: with one row group for each batch, encoding
# took a fifth longer.
ROW_GROUP_BYTES = 8 << 20

# Bytes of a part after which the system is asked to write them. Syncing all at the end took 13 ms longer.
BEHIND_BYTES = 4 << 20

# Values that are encoded at once: with Arrow's 1,024, differences of ids take a sixth longer.
VALUES_AT_ONCE = 1 << 14

# Added columns that are not worth a dictionary and statistics: scores rarely repeat and lie in no order. A
# `rating` may be a column of the input, which does repeat.
SCORES = ("score", "scores", "ratings")
PLAIN = (*SCORES, "known")


@contextmanager
def new_part(
    path: Path, format: Format, schema: pa.Schema, row_group_bytes: int = ROW_GROUP_BYTES
) -> Iterator[Write]:
    """Give a function that writes tables of one schema; `path` appears when the block ends without an error.

    `row_group_bytes` is the size of Parquet's row groups in memory.

    Raises:
        JobError: not writable, or the disk is full; `path` is then as it was.
        InputError: a value that the format can't hold.
    """
    try:
        with new_file(path) as file, WRITERS[format](file, schema, row_group_bytes) as write:
            behind = 0

            def write_on(table: pa.Table) -> None:
                nonlocal behind
                write(table)
                if (size := file.tell()) > behind + BEHIND_BYTES:
                    write_behind(file, behind)
                    behind = size

            yield write_on
    except FullDiskError as error:
        raise JobError(f"{error} What is finished is kept.") from error
    except OSError as error:
        reason = error.strerror or str(error)
        raise JobError(f"{path} can't be written: {reason}. What is finished is kept.") from error


def check_format(format: Format, schema: pa.Schema) -> None:
    """Refuse columns that a format can't hold. Raises InputError: there is one."""
    fits = {"csv": _fits_csv, "jsonl": _fits_json}.get(format)
    for field in schema:
        if fits and not fits(field.type):
            raise InputError(
                f"{format} can't hold the column {field.name}, which is {field.type}. Convert it, write "
                f"--format parquet, or leave it out of the input."
            )


@contextmanager
def _parquet(file: BinaryIO, schema: pa.Schema, row_group_bytes: int) -> Iterator[Write]:
    import pyarrow.parquet as pq

    repeating = [
        field.name + (".list.element" if pa.types.is_list(field.type) else "")
        for field in schema
        if field.name not in PLAIN
    ]
    # Integers are mostly ids: differences are encoded in half of a dictionary's time, and take a tenth more.
    integers = [field.name for field in schema if pa.types.is_integer(field.type) and field.name not in PLAIN]
    # Packed differences and scores are as large with a compression.
    packed = {*integers, *SCORES, *(f"{name}.list.element" for name in SCORES)}
    compression = {path: "none" if path in packed else "snappy" for path in _leaves(schema)}
    writer = pq.ParquetWriter(
        file,
        schema,
        version="2.6",
        compression=compression,
        use_dictionary=[name for name in repeating if name not in integers],
        column_encoding=dict.fromkeys(integers, "DELTA_BINARY_PACKED"),
        write_statistics=repeating,
        write_batch_size=VALUES_AT_ONCE,
    )
    held: list[pa.Table] = []
    n_bytes = 0  # of them

    def write_group() -> None:
        nonlocal n_bytes
        group = pa.concat_tables(held)
        held.clear()
        n_bytes = 0
        if len(group):
            writer.write_table(group, row_group_size=len(group))

    def write(table: pa.Table) -> None:
        nonlocal n_bytes
        held.append(table)
        n_bytes += table.nbytes
        if n_bytes >= row_group_bytes:
            write_group()

    try:
        yield write
        if held:
            write_group()
        writer.close()
    finally:
        writer.is_open = False  # or it is closed again when it is collected, and raises there


def _leaves(schema: pa.Schema) -> list[str]:
    """The paths of Parquet's columns, several for a nested one."""
    import pyarrow.parquet as pq

    empty = pa.BufferOutputStream()
    pq.ParquetWriter(empty, schema).close()
    return [column.path for column in pq.ParquetFile(empty.getvalue()).schema]


@contextmanager
def _csv(file: BinaryIO, schema: pa.Schema, row_group_bytes: int) -> Iterator[Write]:
    import pyarrow.csv as pa_csv

    names = harmless(pa.array(schema.names, pa.string())).to_pylist()
    plain = pa.schema(zip(names, (_plain(kind) for kind in schema.types), strict=True))
    writer = pa_csv.CSVWriter(file, plain)

    def write(table: pa.Table) -> None:
        columns = []
        for name, column, kind in zip(schema.names, table.columns, plain.types, strict=True):
            column = column.cast(kind)
            _check_times(name, column)
            columns.append(harmless(column) if pa.types.is_string(kind) else column)
        writer.write_table(pa.Table.from_arrays(columns, schema=plain))

    yield write
    writer.close()


@contextmanager
def _json_lines(file: BinaryIO, schema: pa.Schema, row_group_bytes: int) -> Iterator[Write]:
    encode = msgspec.json.Encoder(decimal_format="number").encode_lines

    def write(table: pa.Table) -> None:
        columns = []
        for name, column in zip(schema.names, table.columns, strict=True):
            try:
                columns.append(column.to_pylist())
            except OverflowError as error:  # Python's calendar ends with the year 9999
                raise InputError(
                    f"JSON lines can't hold a value of {name}: {error}. Write parquet, or correct it."
                ) from None
        file.write(encode(dict(zip(schema.names, row, strict=True)) for row in zip(*columns, strict=True)))

    yield write


WRITERS: dict[Format, Callable[[BinaryIO, pa.Schema, int], AbstractContextManager[Write]]] = {
    "parquet": _parquet,
    "csv": _csv,
    "jsonl": _json_lines,
}


def harmless(text: pa.Array) -> pa.Array:
    """Put an apostrophe before text that a spreadsheet would otherwise run as a formula."""
    formula = pc.and_(
        pc.match_substring_regex(text, FORMULA), pc.invert(pc.match_substring_regex(text, NUMBER))
    )
    if not pc.any(formula).as_py():
        return text
    return pc.if_else(formula, pc.binary_join_element_wise("'", text, ""), text)


def _check_times(name: str, column: pa.ChunkedArray) -> None:
    """Raise InputError for times that Arrow can't write: it would put an error message into the cell."""
    if not pa.types.is_temporal(column.type) or pa.types.is_duration(column.type):
        return
    if pa.types.is_timestamp(column.type):
        column = column.cast(pa.timestamp(column.type.unit))  # in a zone, out of range wraps around
    text = column.cast(pa.string())
    wrong = text.filter(pc.starts_with(text, NO_TIME))
    if len(wrong):
        value = wrong[0].as_py().removeprefix(NO_TIME).strip(": >")
        raise InputError(
            f"CSV can't hold {name} {value}, a {column.type} outside the years that text can express. Write "
            f"parquet, or correct it."
        )


def _plain(kind: pa.DataType) -> pa.DataType:
    """The type that a column has in CSV: string for every type of text."""
    is_text = pa.types.is_string_view(kind) or pa.types.is_large_string(kind)
    return pa.string() if is_text else kind


def _fits_csv(kind: pa.DataType) -> bool:
    import pyarrow.csv as pa_csv

    kind, types = _plain(kind), pa.types
    # Arrow writes bytes as if they were text, without escaping them.
    is_bytes = types.is_binary(kind) or types.is_large_binary(kind) or types.is_fixed_size_binary(kind)
    if is_bytes or not _knows_zone(kind):
        return False
    schema = pa.schema({"column": kind})
    try:
        with pa_csv.CSVWriter(pa.BufferOutputStream(), schema) as writer:
            writer.write_table(schema.empty_table())
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        return False
    return True


def _fits_json(kind: pa.DataType) -> bool:
    """Whether Python has values of this type; it has no nanoseconds."""
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
    """Whether this machine knows the time zone of a timestamp, if it has one."""
    if not pa.types.is_timestamp(kind) or kind.tz is None:
        return True
    try:
        pa.scalar(0, kind).cast(pa.string())
        pa.scalar(0, pa.timestamp("s", kind.tz)).as_py()
    except (pa.ArrowInvalid, LookupError, ValueError):
        return False
    return True
