"""Text inputs as Parquet in the job's folder, so that every fragment can be read by itself.

Where a record of text begins is known only once all records before it are read, so each text file is read
once, in order, and written to `_input/00000.parquet`, where row groups end as fragments do. Its columns are
those that the task reads, as text, and two more: the line where each row begins, and the refusal (JSON) of a
row that can't be read, whose other columns are null.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa

from serve.batch.job import Plan
from serve.batch.job_folder import INPUT
from serve.files.atomic import new_file
from serve.reading.files import open_source
from serve.reading.parquet import ParquetSource
from serve.reading.rows import RefusedRow, Rows

_refusals = msgspec.json.Decoder(RefusedRow)


def staged_path(folder: Path, place: int) -> Path:
    """Where the plan's file at `place` is staged."""
    return folder / INPUT / f"{place:05d}.parquet"


def stage(plan: Plan, folder: Path) -> None:
    """Stage the text files of a job; files that an earlier run of the job has staged are kept.

    Raises:
        InputError: a file can't be read, or has changed since the job was planned.
        OSError: the folder can't be written, or the disk is full.
    """
    import pyarrow.parquet as pq

    for place, file in enumerate(plan.files):
        path = staged_path(folder, place)
        if not file.is_text or path.exists():
            continue
        path.parent.mkdir(exist_ok=True)
        source = open_source(Path(file.path), plan.job.delimiter, plan.job.heading, file.partition)
        names = source.schema.names if plan.job.task.reads_all else list(plan.columns.values())
        line, refusal = _free_name("line", names), _free_name("refusal", names)
        schema = pa.schema({**dict.fromkeys(names, pa.string()), line: pa.int64(), refusal: pa.string()})
        with (
            new_file(path) as staged,
            pq.ParquetWriter(
                staged,
                schema,
                compression="lz4",
                use_dictionary=False,
                write_statistics=False,
                column_encoding={line: "DELTA_BINARY_PACKED"},
            ) as writer,
        ):
            room = plan.job.rows_per_part
            for rows in source.read(names):
                table = _with_refusals(rows, schema)
                while len(table):
                    group = table.slice(0, room)
                    writer.write_table(group)
                    table = table.slice(len(group))
                    room = room - len(group) or plan.job.rows_per_part
            file.check_unchanged()


class StagedSource:
    """The text file `name`, read from its staged copy at `path`."""

    is_text = True

    def __init__(self, name: str, path: Path) -> None:
        self.name = name
        self._parquet = ParquetSource(path)
        self.schema = pa.schema(list(self._parquet.schema)[:-2])
        self.group_rows = self._parquet.group_rows

    def read(
        self, columns: Sequence[str] | None, *, row_groups: Sequence[int], first_row: int, batch_rows: int
    ) -> Iterator[Rows]:
        """See ParquetSource; rows are numbered by their lines, not from `first_row`."""
        names = list(columns or self.schema.names)
        read = [*names, *self._parquet.schema.names[-2:]]
        for rows in self._parquet.read(read, row_groups=row_groups, batch_rows=batch_rows):
            lines, refusals = rows.table.columns[-2:]
            table, numbers, refused = rows.table.select(names), lines.to_numpy(), []
            if refusals.null_count < len(refusals):
                good = refusals.is_null()
                refused = [_refusals.decode(text) for text in refusals.drop_null().to_pylist()]
                table, numbers = table.filter(good), numbers[good.to_numpy()]
            yield Rows(self.name, "line", table, numbers, refused)


def _with_refusals(rows: Rows, schema: pa.Schema) -> pa.Table:
    """All rows, refused ones too, in the order of their lines."""
    line, refusal = schema.names[-2:]
    lines = pa.array(np.asarray(rows.numbers, np.int64))
    added = [lines, pa.nulls(len(lines), pa.string())]
    table = pa.Table.from_arrays([*rows.table.columns, *added], schema=schema)
    if not rows.refused:
        return table
    columns = {name: pa.nulls(len(rows.refused), pa.string()) for name in schema.names}
    columns[line] = pa.array([row.line for row in rows.refused], pa.int64())
    columns[refusal] = pa.array([msgspec.json.encode(row).decode() for row in rows.refused])
    return pa.concat_tables([table, pa.table(columns, schema=schema)]).sort_by(line)


def _free_name(name: str, taken: Sequence[str]) -> str:
    while name in taken:
        name += "_"
    return name
