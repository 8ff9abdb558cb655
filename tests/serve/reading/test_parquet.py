"""Parquet -> rows: selected row groups and columns, text that is not UTF-8, damage."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from serve.errors import InputError
from serve.reading.parquet import ParquetSource


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "some.parquet"


def test_stretches_of_row_groups(path: Path) -> None:
    table = pa.table({"a": np.arange(100), "b": np.arange(100) * 2})
    pq.write_table(table, path, row_group_size=30)
    source = ParquetSource(path)
    assert source.group_rows == [30, 30, 30, 10]
    read = list(source.read(["b", "a"], row_groups=[1, 2], first_row=31, batch_rows=25))
    assert max(len(rows.table) for rows in read) <= 25
    assert pa.concat_tables([rows.table for rows in read]).equals(table.slice(30, 60).select(["b", "a"]))
    assert [number for rows in read for number in rows.numbers] == list(range(31, 91))
    assert sum(len(rows.table) for rows in source.read()) == 100


def test_a_dictionary_is_its_values(path: Path) -> None:
    column = pa.array(["x", None, "y", "x"])
    pq.write_table(pa.table({"a": column.dictionary_encode()}), path)
    source = ParquetSource(path)
    assert source.schema.field("a").type == pa.string()
    (rows,) = source.read()
    assert rows.table["a"].combine_chunks().equals(column)


def test_rows_with_text_that_is_not_utf_8_are_refused(path: Path) -> None:
    text = pa.array([b"a", b"\xff", None, b"c"]).view(pa.string())
    late = pa.array([1, 2, 3, 1 << 50], pa.time64("us"))  # after midnight, which Python can't represent
    for note in (text, pa.StructArray.from_arrays([text, late], ["text", "time"])):
        pq.write_table(pa.table({"id": [1, 2, 3, 4], "note": note}), path)
        (rows,) = ParquetSource(path).read()
        assert rows.table["id"].to_pylist() == list(rows.numbers) == [1, 3, 4]
        (refused,) = rows.refused
        assert (refused.row, refused.line, refused.column, refused.reason) == (2, None, "note", "not UTF-8")
        assert "xff" in str(refused.value)
        (rows,) = ParquetSource(path).read(["id"])
        assert len(rows.table) == 4


def test_a_cut_file(path: Path) -> None:
    pq.write_table(pa.table({"a": [1]}), path)
    whole = path.read_bytes()
    for length in (0, 3, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(InputError, match="can't be read as Parquet"):
            ParquetSource(path)
