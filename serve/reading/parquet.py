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


class ParquetSource:
    """A Parquet file. Dictionary columns (pandas' categories) are read as their values.

    Raises InputError: not a Parquet file, or a damaged one.
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
            fields: pa.Schema = self._file.schema_arrow
        # Arrow gives each batch the whole dictionary of its row group: a copy for each batch.
        self.schema = pa.schema(
            [f.with_type(f.type.value_type) if pa.types.is_dictionary(f.type) else f for f in fields]
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
        """See `Source.read`. Rows with text that is not UTF-8 are refused.

        Args:
            columns: See `Source.read`.
            row_groups: The row groups to read; None: all. They are streamed: memory is bounded by the size of
                a page (1 MiB in almost every writer), not of a row group.
            first_row: Number of the first row that is read.
            batch_rows: Maximum rows of a batch.

        Raises:
            InputError: the file is damaged.
        """
        groups = list(range(len(self.group_rows)) if row_groups is None else row_groups)
        expected = sum(self.group_rows[group] for group in groups)
        schema = self.schema if columns is None else pa.schema([self.schema.field(name) for name in columns])
        row = first_row
        with self._explained():
            for batch in self._file.iter_batches(
                batch_rows, row_groups=groups, columns=columns, use_threads=False
            ):
                arrays = batch.columns
                if columns:
                    arrays = [batch.column(batch.schema.get_field_index(name)) for name in columns]
                # Decoded by `take`: a cast refuses the column as a whole if any text is not UTF-8.
                arrays = [
                    array.dictionary.take(array.indices) if pa.types.is_dictionary(array.type) else array
                    for array in arrays
                ]
                table = pa.Table.from_arrays(arrays, schema=schema)
                yield _checked(Rows(self.name, "row", table, range(row, row + len(table)), []))
                row += len(table)
        if row - first_row != expected:
            raise InputError(
                f"{self.name} holds {row - first_row} rows, but its footer says {expected}. Copy it again."
            )

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
            message = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
            raise InputError(f"{self.name} can't be read as Parquet: {message}. Copy it again.") from None


def _checked(rows: Rows) -> Rows:
    """The rows, with those refused that have text that is not UTF-8."""
    try:
        rows.table.validate(full=True)
        return rows
    except pa.ArrowInvalid:
        pass
    refused: dict[int, RefusedRow] = {}
    for name in rows.table.column_names:
        column = rows.table.column(name)
        for place in range(len(column)):
            try:
                column.slice(place, 1).to_pylist()
            except UnicodeDecodeError as error:
                shown = error.object.decode(errors="backslashreplace")
                refused.setdefault(place, rows.refuse(place, name, "not UTF-8", shown))
            except (ValueError, OverflowError):
                continue  # a value that Python can't represent, such as a time after midnight
    return rows.without(refused)
