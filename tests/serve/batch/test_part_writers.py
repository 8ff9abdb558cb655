"""Every value in every format: as it was, disarmed for spreadsheets, or refused."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from serve.batch.score import Score
from serve.errors import InputError

from .conftest import DoJob, read


def pairs_with(name: str, column: Any, path: Path) -> Path:
    table = pa.table({"user_id": [10] * len(column), "item_id": [1001] * len(column), name: column})
    pq.write_table(table, path)
    return path


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize(
    "kind", [pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int32(), pa.string())]
)
def test_a_spreadsheet_runs_no_formula(kind: pa.DataType, tmp_path: Path, do: DoJob) -> None:
    formulas = ["=1+1", "+cmd|' /C calc'!A0", "-2+3", "@SUM(A1)", '=say "hi"', "\n=1"]
    formulas += [f"{wide}1+1" for wide in "＝＋－＠﹦﹢﹣﹫"]
    # Among them: no-break and zero-width spaces, byte order mark, right-to-left override, line separator.
    formulas += [f"{lead}=1" for lead in (*" \t\r\x0b\0\xa0\u200b\ufeff\u202e\u2028", "\u200e ")]
    formulas += ["\tplain", "\u200bplain"]
    harmless = ["-5", "+1.5e3", "plain", "a=b", "", " plain", "１", "⁼"]
    column = pa.array([*formulas, *harmless]).cast(kind)
    do(Score(), pairs_with("=heading", column, tmp_path / "pairs.parquet"), format="csv")
    found = [row["'=heading"] for row in rows_of(tmp_path / "out" / "part-00000.csv")]
    assert found == [*("'" + cell for cell in formulas), *harmless]


@pytest.mark.parametrize("format", ["csv", "jsonl", "parquet"])
def test_text_goes_through_unchanged(format: str, tmp_path: Path, do: DoJob) -> None:
    cells = [
        '5" pipe',
        "a\nb",
        "a\r\nb",
        '"',
        '""',
        'say "hi", twice: "hi"',
        "x,y",
        "",
        "Ünïcode 映画",
        "007",
    ]
    with (tmp_path / "pairs.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["note", "item_id", "user_id"])
        writer.writerows([cell, "1001", "10"] for cell in cells)
    do(Score(), tmp_path / "pairs.csv", format=format, part_rows=4, batch_rows=3)
    found = []
    for part in sorted((tmp_path / "out").glob("part-*")):
        rows: dict[str, Any] = {
            "csv": lambda part=part: rows_of(part),
            "jsonl": lambda part=part: map(json.loads, part.read_text().splitlines()),
            "parquet": lambda part=part: pq.read_table(part).to_pylist(),
        }
        found += [row["note"] for row in rows[format]()]
    assert found == cells


@pytest.mark.parametrize(
    ("format", "column"),
    [
        ("csv", pa.array(["{}"], pa.json_())),
        ("csv", pa.array([[1]])),
        ("csv", pa.array([b"=1"])),
        ("jsonl", pa.array([1], pa.timestamp("ns"))),
        ("jsonl", pa.array([[1]], pa.list_(pa.time64("ns")))),
        ("csv", pa.array([1], pa.timestamp("s", "No/Where"))),
        ("jsonl", pa.array([1], pa.timestamp("s", "No/Where"))),
        ("jsonl", pa.StructArray.from_arrays([pa.array([1]), pa.array([2])], ["twice", "twice"])),
    ],
)
def test_columns_that_a_format_can_not_hold(format: str, column: pa.Array, tmp_path: Path, do: DoJob) -> None:
    path = pairs_with("strange", column, tmp_path / "pairs.parquet")
    with pytest.raises(InputError, match="can't hold the column strange"):
        do(Score(), path, format=format)
    do(Score(), path)


@pytest.mark.parametrize("format", ["csv", "jsonl"])
@pytest.mark.parametrize(
    "when",
    [
        pa.array([0, 2**31 - 1], pa.int32()).view(pa.date32()),
        pa.array([0, 2**62], pa.int64()).view(pa.timestamp("us")),
        pa.array([0, 2**62], pa.int64()).view(pa.timestamp("ms", "UTC")),
    ],
)
def test_times_outside_the_calendar(format: str, when: pa.Array, tmp_path: Path, do: DoJob) -> None:
    do(Score(), pairs_with("when", when[:1], tmp_path / "fine.parquet"), format=format)
    path = pairs_with("when", when, tmp_path / "pairs.parquet")
    with pytest.raises(InputError, match=r"can't hold .*when"):
        do(Score(), path, format=format, overwrite=True)
    do(Score(), path, overwrite=True)
    assert read(tmp_path / "out")["when"].combine_chunks().equals(when)


def test_dictionaries_are_written_once(tmp_path: Path, do: DoJob) -> None:
    """Categories of pandas come with the whole dictionary in every batch."""
    notes = pa.array([f"a long text about row {n}" for n in range(20_000)])
    sizes = []
    for name, column in (("plain", notes), ("coded", notes.dictionary_encode())):
        path = pairs_with("note", column, tmp_path / f"{name}.parquet")
        do(Score(), path, output=str(tmp_path / name), batch_rows=200)
        (part,) = (tmp_path / name).glob("part-*.parquet")
        sizes.append(part.stat().st_size)
        assert pq.ParquetFile(part).num_row_groups == 1
    assert read(tmp_path / "coded").equals(read(tmp_path / "plain"))
    assert sizes[1] < 1.1 * sizes[0]
