"""Parquet files of a bundle: written deterministically, read as untrusted input."""

from __future__ import annotations

import mmap
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa

from serve.bundle.parquet_pages import PageError, check_pages, check_schema
from serve.errors import BundleError
from serve.reading.rows import joined

ROW_GROUP_ROWS = 65_536
MAX_ROW_GROUP_ROWS = 1 << 20
# A footer takes about 100 bytes for each column of a row group: 16 MiB is billions of ratings.
MAX_FOOTER_BYTES = 16 << 20
MAX_TEXT_BYTES = 64 << 10
"""Of one value."""
TEXT_RATIO = 32
"""Text of a column may take as many times the bytes of the file. A dictionary that holds a long text once may
name it in each row, but ids differ from row to row, and take as much as that saves."""


def write_columns(path: Path, columns: dict[str, pa.Array], row_group_rows: int = ROW_GROUP_ROWS) -> None:
    """Write the columns in this order. The same columns give the same bytes with the same release of pyarrow.

    Every reader supports Snappy and format 2.6, that of the browser page too. Without rows there is no row
    group: an empty one would have no statistics.
    """
    import pyarrow.parquet as pq

    fields = [pa.field(name, column.type) for name, column in columns.items()]
    table = pa.Table.from_arrays(list(columns.values()), schema=pa.schema(fields))
    with pq.ParquetWriter(
        path,
        table.schema,
        version="2.6",
        compression="snappy",
        write_statistics=True,
        store_schema=False,
    ) as writer:
        if len(table):
            writer.write_table(table, row_group_size=row_group_rows)


class ParquetTable:
    """A Parquet file of the bundle, open. Not thread-safe: its reader has one position in the file.

    Args:
        path: The file.
        types: Column -> the types it may have; other columns are ignored.
        optional: Columns of `types` that may be missing.
        nullable: Columns whose values may be missing.

    Raises:
        BundleError: it is not Parquet, its footer is too large, or a column is missing or of another type.
    """

    def __init__(
        self,
        path: Path,
        types: Mapping[str, Sequence[pa.DataType]],
        optional: Sequence[str] = (),
        nullable: Sequence[str] = (),
    ) -> None:
        import pyarrow.parquet as pq

        self.path = path
        self._nullable = nullable
        self._text: list[str] = []
        with self._explained():
            _check_footer(path)
            self._metadata = pq.read_metadata(path)
            self._file = pq.ParquetFile(path, memory_map=True, metadata=self._metadata)
            schema = self._file.schema_arrow
        there = self._metadata.schema.names
        self._leaves = {}  # column -> its position in the file, where the fields of nested columns count too
        for name, allowed in types.items():
            if name not in schema.names:
                if name not in optional:
                    raise BundleError(f"{path} has no column {name!r}. Export the bundle again.")
                continue
            found = schema.field(schema.names.index(name)).type
            if schema.names.count(name) > 1 or found not in allowed:
                expected = " or ".join(str(kind) for kind in allowed)
                raise BundleError(f"{path}: {name} is {found}, not {expected}. Export the bundle again.")
            self._leaves[name] = there.index(name)
            if found == pa.string():
                self._text.append(name)
        self.columns = list(self._leaves)
        self.n_rows: int = self._metadata.num_rows
        self.n_row_groups: int = self._metadata.num_row_groups
        rows = [self._metadata.row_group(group).num_rows for group in range(self.n_row_groups)]
        if sum(rows) != self.n_rows or not all(0 <= n <= MAX_ROW_GROUP_ROWS for n in rows):
            raise BundleError(
                f"{path} has {self.n_rows} rows in {self.n_row_groups} groups of {min(rows, default=0)} to "
                f"{max(rows, default=0)}, which no export writes. Export the bundle again."
            )

    def check_rows(self, n_rows: int) -> None:
        """Raise BundleError unless there are as many rows as the manifest says."""
        if self.n_rows != n_rows:
            raise BundleError(
                f"{self.path} has {self.n_rows} rows, its manifest says {n_rows}. Export the bundle again."
            )

    def read(self, names: Sequence[str], row_group: int | None = None) -> dict[str, pa.Array]:
        """Columns, whole or of one row group; text as strings.

        Raises BundleError: the pages are damaged, a value is missing, or text is not UTF-8 or too long.
        """
        n_rows = self.n_rows if row_group is None else self._metadata.row_group(row_group).num_rows
        groups = list(range(self.n_row_groups)) if row_group is None else [row_group]
        with self._explained():
            self._check_pages(names, groups)
            if text := [name for name in names if name in self._text]:
                self._check_text(text, groups)
            table = self._file.read_row_groups(groups, columns=list(names), use_threads=False)
        if table.num_rows != n_rows:
            raise BundleError(
                f"{self.path} holds {table.num_rows} rows, its footer says {n_rows}. Copy it again."
            )
        for name in names:
            if (n := table.column(name).null_count) and name not in self._nullable:
                raise BundleError(f"{self.path}: {n} of {name} are missing. Export the bundle again.")
        return {name: joined(table.column(name)) for name in names}

    def _check_pages(self, names: Sequence[str], groups: Sequence[int]) -> None:
        with (
            self.path.open("rb") as file,
            mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped,
            memoryview(mapped) as data,
        ):
            for group in groups:
                found = self._metadata.row_group(group)
                for name in names:
                    check_pages(data, found.column(self._leaves[name]), found.num_rows)

    def _check_text(self, names: list[str], groups: list[int]) -> None:
        """Check how much text there is before each value is copied to its row, and that it is UTF-8."""
        import pyarrow.parquet as pq

        coded = pq.ParquetFile(
            self.path, memory_map=True, metadata=self._metadata, read_dictionary=names
        ).read_row_groups(groups, columns=names, use_threads=False)
        most = TEXT_RATIO * self.path.stat().st_size
        for name in names:
            n_bytes, longest = 0, 0
            for chunk in coded.column(name).chunks:
                chunk.validate(full=True)
                texts = chunk.dictionary
                if not len(texts):
                    continue
                lengths = np.diff(np.frombuffer(texts.buffers()[1], np.int32, len(texts) + 1))
                # Where a value is missing, any number may stand.
                place = np.frombuffer(chunk.indices.buffers()[1], np.int32)[chunk.offset :][: len(chunk)]
                n_bytes += int(lengths.take(place, mode="clip").sum(dtype=np.int64))
                longest = max(longest, int(lengths.max()))
            if longest > MAX_TEXT_BYTES or n_bytes > most:
                raise BundleError(
                    f"{self.path}: {name} has {n_bytes} bytes and one value of {longest}, where {most} and "
                    f"{MAX_TEXT_BYTES} are allowed. Export the bundle again."
                )

    def ranges(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Lowest and highest integer in each row group: int64 [n_row_groups] both. Raises BundleError."""
        lows, highs = np.empty((2, self.n_row_groups), np.int64)
        for group in range(self.n_row_groups):
            statistics = self._metadata.row_group(group).column(self._leaves[name]).statistics
            if statistics is None or not statistics.has_min_max or statistics.null_count:
                raise BundleError(
                    f"{self.path}: row group {group} does not say its range of {name}. Export again."
                )
            lows[group], highs[group] = statistics.min, statistics.max
        return lows, highs

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except (pa.ArrowException, PageError, OSError, UnicodeDecodeError) as error:
            message = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise BundleError(
                f"{self.path} can't be read: {message}. Copy or export the bundle again."
            ) from None


def numbers(column: pa.Array) -> np.ndarray:
    """The values of an integer or float column without nulls: [n], its own dtype, read-only, not copied.

    Not `to_numpy`: that imports pandas where it is installed, which takes longer than a whole answer.
    """
    assert not column.null_count
    values = column.buffers()[1]
    if values is None:
        return np.empty(0, column.type.to_pandas_dtype())
    array: np.ndarray = np.frombuffer(values, column.type.to_pandas_dtype())
    return array[column.offset : column.offset + len(column)]


def arrow(values: np.ndarray, missing: np.ndarray | None = None) -> pa.Array:
    """Numbers or booleans [n] as an Arrow array, null where `missing` (bool [n]) is true.

    Not `pa.array`, which also imports pandas where it is installed.
    """
    data = _bits(values) if values.dtype == bool else pa.py_buffer(np.ascontiguousarray(values))
    valid = None if missing is None else _bits(~missing)
    return pa.Array.from_buffers(pa.from_numpy_dtype(values.dtype), len(values), [valid, data])


def _bits(values: np.ndarray) -> pa.Buffer:
    return pa.py_buffer(np.packbits(values, bitorder="little"))


def _check_footer(path: Path) -> None:
    with path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(max(0, size - 8))
        ending = file.read(8)
    footer = int.from_bytes(ending[:4], "little")
    if ending[4:] != b"PAR1" or footer + 12 > size:
        raise BundleError(f"{path} is not a whole Parquet file. Copy or export the bundle again.")
    if footer > MAX_FOOTER_BYTES:
        raise BundleError(f"{path} has a footer of {footer} bytes, more than {MAX_FOOTER_BYTES}.")
    with path.open("rb") as file:
        file.seek(size - 8 - footer)
        check_schema(file.read(min(footer, 1 << 10)))
