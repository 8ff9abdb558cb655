"""Parquet -> rows, in batches of bounded size."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa

from serve.errors import InputError
from serve.reading.rows import RefusedRow, Rows

BUFFER_BYTES = 1 << 20
BATCH_ROWS = 1 << 16
_STRINGS = (pa.string(), pa.large_string(), pa.string_view())


class ParquetSource:
    """A Parquet file. Columns of a dictionary (pandas' categories) come as their values.

    Args:
        file: What to read.

    Raises:
        InputError: it is not a whole Parquet file.
    """

    is_text = False

    def __init__(self, file: Path) -> None:
        import pyarrow.parquet as pq

        self.name = str(file)
        with self._explained():
            # Neither mapped nor read ahead as a whole: both would hold the column chunks in memory.
            self._file = pq.ParquetFile(
                file,
                pre_buffer=False,
                buffer_size=BUFFER_BYTES,
                memory_map=False,
                page_checksum_verification=True,
            )
            given: pa.Schema = self._file.schema_arrow
        # Arrow gives all of a row group's dictionary with each batch: it would be kept, and written again, as
        # often as there are batches.
        self.schema = pa.schema(
            [f.with_type(f.type.value_type) if pa.types.is_dictionary(f.type) else f for f in given]
        )
        metadata = self._file.metadata
        self.group_rows: list[int] = [metadata.row_group(n).num_rows for n in range(metadata.num_row_groups)]
        """Rows of each row group."""

    def read(
        self,
        columns: Sequence[str] | None = None,
        *,
        row_groups: Sequence[int] | None = None,
        first_row: int = 1,
        batch_rows: int = BATCH_ROWS,
    ) -> Iterator[Rows]:
        """See Source. Refused are rows with text that is not UTF-8.

        Args:
            columns: See Source.
            row_groups: Those to read; None: all. They are streamed: the size of a page (1 MiB in almost every
                writer) bounds memory, not that of a row group.
            first_row: The number of the first row that is read.
            batch_rows: The most rows of one batch.

        Raises:
            InputError: the file is damaged.
        """
        groups = list(range(len(self.group_rows))) if row_groups is None else list(row_groups)
        expected = sum(self.group_rows[group] for group in groups)
        schema = self.schema if columns is None else pa.schema([self.schema.field(name) for name in columns])
        row = first_row
        with self._explained():
            for batch in self._file.iter_batches(
                batch_rows, row_groups=groups, columns=columns, use_threads=False
            ):
                # Not by a cast, which refuses text that is not UTF-8 as a whole.
                places = [batch.schema.get_field_index(name) for name in schema.names] if columns else None
                arrays = batch.columns if places is None else [batch.column(place) for place in places]
                arrays = [_values(array) for array in arrays]
                table = pa.Table.from_arrays(arrays, schema=schema)
                numbers = range(row, row + len(table))
                yield _checked(Rows(self.name, "row", table, numbers, []))
                row += len(table)
        if row - first_row != expected:
            raise InputError(
                f"{self.name} holds {row - first_row} rows where its footer says {expected}. Copy it again."
            )

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
            message = str(error).splitlines()[0].rstrip(".") if str(error) else type(error).__name__
            raise InputError(f"{self.name} can't be read as Parquet: {message}. Copy it again.") from None


def _values(column: pa.Array) -> pa.Array:
    return column.dictionary.take(column.indices) if pa.types.is_dictionary(column.type) else column


def _checked(rows: Rows) -> Rows:
    """The rows without those that have text that is not UTF-8."""
    refused: dict[int, RefusedRow] = {}
    for name, column in zip(rows.table.column_names, rows.table.columns, strict=True):
        if not _is_utf8(column):
            for place, shown in _not_utf8(column):
                refused.setdefault(place, rows.refuse(place, name, "not UTF-8", shown))
    return rows.without(refused)


def _has_text(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        return _has_text(kind.value_type)
    if pa.types.is_nested(kind):
        return any(_has_text(kind.field(place).type) for place in range(kind.num_fields))
    return kind in _STRINGS


def _is_utf8(column: pa.ChunkedArray) -> bool:
    if _has_text(column.type):
        try:
            column.validate(full=True)
        except pa.ArrowInvalid:
            return False
    return True


def _not_utf8(column: pa.ChunkedArray) -> Iterator[tuple[int, str]]:
    """Where text is not UTF-8, and what it is."""
    for place in range(len(column)):
        try:
            column.slice(place, 1).to_pylist()
        except UnicodeDecodeError as error:
            yield place, error.object.decode(errors="backslashreplace")
        except (ValueError, OverflowError):
            continue  # something else that Python has no value for
