"""Rows of a Parquet file, cut between row groups and read in batches of bounded size."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa

from serve.batch.source import Cut, Rows, as_text, only
from serve.errors import InputError

BUFFER_BYTES = 1 << 20


class ParquetSource:
    """A Parquet file.

    A row group is never split, since reading from its middle means decoding from its beginning; but it is
    streamed, so its size does not count. (What does is the size of one page: 1 MiB in almost every writer.)

    Raises:
        InputError: it is not a whole Parquet file.
    """

    is_text = False

    def __init__(self, path: Path) -> None:
        import pyarrow.parquet as pq

        self._path = path
        with self._explained():
            # Neither mapped nor read ahead as a whole: both would hold the column chunks in memory.
            self._file = pq.ParquetFile(
                path,
                pre_buffer=False,
                buffer_size=BUFFER_BYTES,
                memory_map=False,
                page_checksum_verification=True,
            )
            given: pa.Schema = self._file.schema_arrow
        self.schema = pa.schema([_plain(field) for field in given])

    def cuts(self, part_rows: int) -> Iterator[Cut]:
        """See Source. `start` and `stop` count row groups."""
        metadata = self._file.metadata
        start = n_rows = 0
        for group in range(metadata.num_row_groups):
            rows = metadata.row_group(group).num_rows
            if n_rows and n_rows + rows > part_rows:
                yield Cut(start, group, n_rows)
                start, n_rows = group, 0
            n_rows += rows
        yield Cut(start, metadata.num_row_groups, n_rows)

    def read(
        self, start: int, stop: int, first_row: int, batch_rows: int, columns: Sequence[str] | None = None
    ) -> Generator[Rows]:
        """See Source."""
        groups = list(range(start, stop))
        expected = sum(self._file.metadata.row_group(group).num_rows for group in groups)
        schema = only(self.schema, columns)
        row = first_row
        with self._explained():
            for batch in self._file.iter_batches(
                batch_rows, row_groups=groups, columns=columns, use_threads=False
            ):
                if (batch.schema.names, batch.schema.types) == (schema.names, schema.types):
                    table = pa.Table.from_batches([batch]).replace_schema_metadata()
                else:
                    arrays = [_values(batch.column(name)) for name in schema.names]
                    table = pa.Table.from_arrays(arrays, schema=schema)
                yield as_text(str(self._path), Rows(table, range(row, row + len(table)), []), schema)
                row += len(table)
        if row - first_row != expected:
            raise InputError(
                f"{self._path} holds {row - first_row} rows where its footer says {expected}. Copy it again."
            )

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
            message = str(error).splitlines()[0].rstrip(".") if str(error) else type(error).__name__
            raise InputError(f"{self._path} can't be read as Parquet: {message}. Copy it again.") from None


def _plain(field: pa.Field) -> pa.Field:
    """A column of a dictionary (pandas' categories) as plain values.

    Arrow gives all of a row group's dictionary with each batch: as many would be kept, and written again, as
    there are batches.
    """
    return field.with_type(field.type.value_type) if pa.types.is_dictionary(field.type) else field


def _values(column: pa.Array) -> pa.Array:
    # Not by a cast, which refuses text that is not UTF-8 as a whole.
    return column.dictionary.take(column.indices) if pa.types.is_dictionary(column.type) else column
