"""The files of a part: one, or one for each value of a column, in folders named as Hive names them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pyarrow as pa

from serve.batch.part_writers import ROW_GROUP_BYTES, Format, Write, new_part
from serve.errors import InputError
from serve.reading.files import HIDDEN
from serve.reading.partitions import NO_VALUE

MOST_VALUES = 256
"""Values of the column in one part: each has an open file, with rows in memory."""
MOST_BYTES_OF_A_NAME = 255
"""What file systems allow."""
PARTITIONED_GROUP_BYTES = ROW_GROUP_BYTES // 8


@contextmanager
def new_files(
    folder: Path, name: str, format: Format, schema: pa.Schema, partition_by: str | None
) -> Iterator[tuple[Write, dict[str, int]]]:
    """Give a function that writes tables of `schema`, and the rows of each file in `folder` that it makes.

    The file is `name`. With `partition_by`, rows go to `COLUMN=VALUE/name`, without that column.

    Raises:
        JobError, InputError: as `new_part`; or the column has more than `MOST_VALUES` values, or one that is
            too long for a name.
    """
    n_rows: dict[str, int] = {}
    if partition_by is None:
        n_rows[name] = 0
        with new_part(folder / name, format, schema) as write_one:

            def write(table: pa.Table) -> None:
                write_one(table)
                n_rows[name] += len(table)

            yield write, n_rows
        return
    writers: dict[str, Write] = {}
    with ExitStack() as stack:

        def write_each(table: pa.Table) -> None:
            for text, rows in _by_value(table, partition_by):
                place = f"{quote(partition_by, safe='')}={_spelled(text)}"
                if len(place) > MOST_BYTES_OF_A_NAME:
                    raise InputError(
                        f"{partition_by} has a value that is too long for the name of a folder: its "
                        f"{len(place)} bytes begin with {place[:60]}. Partition by another column."
                    )
                file = f"{place}/{name}"
                if file not in writers:
                    if len(writers) == MOST_VALUES:
                        raise InputError(
                            f"{partition_by} has more than {MOST_VALUES} values in {name}: too many folders. "
                            f"Partition by another column, or take fewer --part-rows."
                        )
                    (folder / file).parent.mkdir(exist_ok=True)
                    part = new_part(folder / file, format, rows.schema, PARTITIONED_GROUP_BYTES)
                    writers[file] = stack.enter_context(part)
                    n_rows[file] = 0
                writers[file](rows)
                n_rows[file] += len(rows)

        yield write_each, n_rows


def check_partition(column: str, schema: pa.Schema) -> None:
    """Check that an output of `schema` can be partitioned by a column. Raises InputError: it can't."""
    if schema.names.count(column) != 1 or len(schema) == 1:
        raise InputError(
            f"--partition-by {column}: the output has the columns {', '.join(schema.names)}. Name one of "
            f"them."
        )
    if column.startswith(HIDDEN):
        raise InputError(
            f"--partition-by {column}: readers leave out folders whose names begin with _ or a dot. "
            f"Rename it."
        )
    kind = schema.field(column).type
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    types = pa.types
    is_text = types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind)
    if not (is_text or types.is_integer(kind) or types.is_boolean(kind) or types.is_date(kind)):
        raise InputError(
            f"--partition-by {column}: it is {kind}. The names of folders hold text, integers, booleans and "
            f"dates."
        )


def _by_value(table: pa.Table, column: str) -> Iterator[tuple[str | None, pa.Table]]:
    """The rows of each value, in order, without the column; and the value as text."""
    values = table.column(column).combine_chunks()
    if isinstance(values, pa.DictionaryArray):
        values = values.dictionary_decode()
    coded = values.cast(pa.string()).dictionary_encode(null_encoding="encode")
    rest = table.drop_columns([column])
    codes = coded.indices.to_numpy()
    order = np.argsort(codes, kind="stable")
    ends = np.cumsum(np.bincount(codes, minlength=len(coded.dictionary)))
    rest = rest.take(pa.array(order))
    start = 0
    for value, end in zip(coded.dictionary.to_pylist(), ends.tolist(), strict=True):
        if end > start:
            yield value, rest.slice(start, end - start)
        start = end


def _spelled(text: str | None) -> str:
    """A value as the name of a folder ends with it, which `serve.reading.partitions` reads."""
    if text is None:
        return NO_VALUE
    return quote(text, safe="") if text != NO_VALUE else f"%5F{text[1:]}"
