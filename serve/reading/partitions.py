"""Columns that Hive and Spark keep in the names of folders: `date=2024-01-01/part-0.parquet`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import unquote

import pyarrow as pa

from serve.reading.cells import parse_integer
from serve.reading.json_lines import JsonLinesSource
from serve.reading.netflix import NetflixSource
from serve.reading.parquet import ParquetSource
from serve.reading.rows import Rows
from serve.reading.text import TextSource

Partition = Mapping[str, int | str | None]
"""Column -> its value in all rows of a file."""
NO_VALUE = "__HIVE_DEFAULT_PARTITION__"


def partitions(names: Sequence[str]) -> list[dict[str, int | str | None]]:
    """The partition of each file, from its name as `files.find_files` gives it; empty where there is none.

    A column has integers where all of its values, over all files, are written as Python writes integers.
    """
    found = [
        {
            unquote(key): None if value == NO_VALUE else unquote(value)
            for key, is_one, value in (part.partition("=") for part in PurePosixPath(name).parts[:-1])
            if is_one and key
        }
        for name in names
    ]
    texts = {key for values in found for key, value in values.items() if value and not _is_number(value)}
    return [
        {
            key: value if value is None or key in texts else parse_integer(value)
            for key, value in values.items()
        }
        for values in found
    ]


class PartitionedSource:
    """A file with the columns of its partition behind its own; a column of the file's own name counts."""

    def __init__(
        self, source: TextSource | JsonLinesSource | NetflixSource | ParquetSource, partition: Partition
    ) -> None:
        self.name, self.is_text = source.name, source.is_text
        self._source = source
        self._added: dict[str, pa.Scalar] = {}
        for key, value in partition.items():
            if key not in source.schema.names:
                text = source.is_text or not isinstance(value, int)
                cell = ("" if value is None else str(value)) if source.is_text else value
                self._added[key] = pa.scalar(cell, pa.string() if text else pa.int64())
        added = [pa.field(key, value.type) for key, value in self._added.items()]
        self.schema = pa.schema([*source.schema, *added])
        self.group_rows = source.group_rows if isinstance(source, ParquetSource) else []

    def read(self, columns: Sequence[str] | None = None, **options: Any) -> Iterator[Rows]:
        """See `Source.read`; `options` are those of `ParquetSource.read`."""
        names = self.schema.names if columns is None else list(columns)
        own = [name for name in names if name not in self._added]
        for rows in self._source.read(own or self._source.schema.names[:1], **options):
            n = len(rows.table)
            arrays = [
                pa.repeat(self._added[name], n) if name in self._added else rows.table.column(name)
                for name in names
            ]
            schema = pa.schema([self.schema.field(name) for name in names])
            yield rows._replace(table=pa.Table.from_arrays(arrays, schema=schema))


def _is_number(text: str) -> bool:
    return (number := parse_integer(text)) is not None and str(number) == text
