"""Text in and out: quotes, line breaks, bytes that are no text, and cells that a spreadsheet would run."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from serve.batch.score import Score
from serve.errors import BadRowError, InputError

from .conftest import DoJob, read


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_formulas_are_disarmed_and_numbers_left(tmp_path: Path, do: DoJob) -> None:
    cells = [
        "=1+1",
        "+cmd|' /C calc'!A0",
        "-2+3",
        "@SUM(A1)",
        "-5",
        "+1.5e3",
        "plain",
        "a=b",
        "",
        '=say "hi"',
    ]
    with (tmp_path / "pairs.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["user_id", "item_id", "=heading"])
        writer.writerows(["10", "1001", cell] for cell in cells)
    do(Score(), tmp_path / "pairs.csv", format="csv")
    rows = rows_of(tmp_path / "out" / "part-00000.csv")
    expected = [
        "'" + cell if cell[:1] in set("=+-@") and cell not in ("-5", "+1.5e3") else cell for cell in cells
    ]
    assert [row["'=heading"] for row in rows] == expected


@pytest.mark.parametrize(
    "kind", [pa.large_string(), pa.string_view(), pa.dictionary(pa.int32(), pa.string())]
)
def test_formulas_are_disarmed_in_every_kind_of_text(kind: pa.DataType, tmp_path: Path, do: DoJob) -> None:
    cells = ["=1+1", "@x", "-2+3", "\n=1", "-5", "plain", None]
    column = pa.array(cells).cast(kind)
    table = pa.table({"user_id": [10] * 7, "item_id": [1001] * 7, "note": column})
    pq.write_table(table, tmp_path / "pairs.parquet")
    do(Score(), tmp_path / "pairs.parquet", format="csv")
    found = [row["note"] for row in rows_of(tmp_path / "out" / "part-00000.csv")]
    assert found == ["'=1+1", "'@x", "'-2+3", "'\n=1", "-5", "plain", ""]


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
    table = pa.table({"user_id": [10], "item_id": [1001], "strange": column})
    pq.write_table(table, tmp_path / "pairs.parquet")
    with pytest.raises(InputError, match="can't hold the column strange, which is"):
        do(Score(), tmp_path / "pairs.parquet", format=format)
    do(Score(), tmp_path / "pairs.parquet")


@pytest.mark.parametrize("format", ["csv", "jsonl"])
@pytest.mark.parametrize(
    "when",
    [
        pa.array([0, 2**31 - 1], pa.int32()).view(pa.date32()),
        pa.array([0, 2**62], pa.int64()).view(pa.timestamp("us")),
        pa.array([0, 2**62], pa.int64()).view(pa.timestamp("ms", "UTC")),
    ],
)
def test_times_of_no_calendar_are_told(format: str, when: pa.Array, tmp_path: Path, do: DoJob) -> None:
    table = pa.table({"user_id": [10, 10], "item_id": [1001, 1002], "when": when})
    pq.write_table(table.slice(0, 1), tmp_path / "fine.parquet")
    pq.write_table(table, tmp_path / "pairs.parquet")
    do(Score(), tmp_path / "fine.parquet", format=format, output=str(tmp_path / "fine"))
    with pytest.raises(InputError, match=r"can't hold (a value of )?when"):
        do(Score(), tmp_path / "pairs.parquet", format=format)
    do(Score(), tmp_path / "pairs.parquet", overwrite=True)
    assert read(tmp_path / "out")["when"].equals(table["when"])


def test_quoted_text_goes_through_unchanged(tmp_path: Path, do: DoJob) -> None:
    cells = [
        'with "quotes"',
        "two\nlines",
        "two\r\nlines",
        "comma, comma",
        "two  spaces",
        "Ünïcode 映画",
        "007",
    ]
    with (tmp_path / "pairs.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["note", "item_id", "user_id"])
        writer.writerows([cell, "1001", "10"] for cell in cells * 5)
    do(Score(), tmp_path / "pairs.csv", format="csv", part_rows=4, batch_rows=3)
    parts = sorted((tmp_path / "out").glob("part-*.csv"))
    assert len(parts) == 9
    assert [row["note"] for part in parts for row in rows_of(part)] == cells * 5
    do(Score(), tmp_path / "pairs.csv", output=str(tmp_path / "again"), part_rows=1000)
    assert read(tmp_path / "again")["note"].to_pylist() == cells * 5


def test_a_cell_that_is_no_text_is_one_bad_row(tmp_path: Path, do: DoJob) -> None:
    (tmp_path / "pairs.csv").write_bytes(b"user_id,item_id,note\n10,1001,ok\n10,1001,\xff\xfe\n10,1002,ok\n")
    with pytest.raises(BadRowError, match=r"line 3: note '\\\\xff\\\\xfe': not UTF-8"):
        do(Score(), tmp_path / "pairs.csv")
    do(Score(), tmp_path / "pairs.csv", on_bad_row="quarantine", resume=True)
    assert read(tmp_path / "out")["item_id"].to_pylist() == [1001, 1002]


def test_tabs_a_byte_order_mark_and_windows_line_ends(tmp_path: Path, do: DoJob) -> None:
    (tmp_path / "pairs.tsv").write_bytes(b"\xef\xbb\xbfuser_id\titem_id\r\n10\t1001\r\n20\t1002\r\n\r\n")
    do(Score(), tmp_path / "pairs.tsv")
    assert read(tmp_path / "out").select(["user_id", "item_id"]).to_pylist() == [
        {"user_id": 10, "item_id": 1001},
        {"user_id": 20, "item_id": 1002},
    ]


def test_cells_are_those_that_the_csv_module_finds(tmp_path: Path, do: DoJob) -> None:
    """Whatever quotes and line breaks they have, and wherever batches and parts end."""
    rng = np.random.default_rng(0)
    pieces = ['5" pipe', 'a"', 'a""b"', "", "a", '"b,c"', '"d""e"', '"l\nm"', '"\r\n"', '""', '""""', "ü"]
    path = tmp_path / "pairs.csv"
    for round_ in range(10):
        rows = [f"{first},10,1001,{last}" for first, last in rng.choice(pieces, (20, 2)).tolist()]
        end = "\r\n" if round_ % 2 else "\n"
        path.write_bytes(end.join(["first,user_id,item_id,last", *rows]).encode())
        sizes = {"part_rows": int(rng.integers(1, 30)), "batch_rows": int(rng.integers(1, 9))}
        do(Score(), path, output=str(tmp_path / str(round_)), **sizes)
        found = read(tmp_path / str(round_)).select(["first", "last"]).to_pylist()
        expected = rows_of(path)
        assert len(expected) == 20
        assert found == [{"first": row["first"], "last": row["last"]} for row in expected]
        assert len(list((tmp_path / str(round_)).glob("part-*"))) == -(-20 // sizes["part_rows"])


QUOTES = [
    ('1,2,a\n10,1001,"open\n10,1001,x\n', "line 3, a quote that opens a cell is never closed"),
    ('10,"100"1,x\n', "line 2, a cell goes on after the quote"),
    ('10,1001,x\n10,1001,"a"b"c"\n', "line 3, a cell goes on after the quote"),
    ('10,1001,"x\n""y"""z\n', "line 2, a cell goes on after the quote"),
]


@pytest.mark.parametrize(("rows", "message"), QUOTES)
def test_wrong_quotes_are_told_of_and_no_row_is_swallowed(
    rows: str, message: str, tmp_path: Path, do: DoJob
) -> None:
    (tmp_path / "pairs.csv").write_text("user_id,item_id,note\n" + rows)
    with pytest.raises(InputError, match=message):
        do(Score(), tmp_path / "pairs.csv", on_bad_row="quarantine")


def test_a_quote_in_the_heading_that_is_never_closed(tmp_path: Path, do: DoJob) -> None:
    (tmp_path / "pairs.csv").write_text('user_id,item_id,"note\n10,1001,x\n10,1001,y\n')
    with pytest.raises(InputError, match="never closed"):
        do(Score(), tmp_path / "pairs.csv")


@pytest.mark.parametrize("format", ["csv", "jsonl", "parquet"])
def test_right_quotes_in_every_format(format: str, tmp_path: Path, do: DoJob) -> None:
    notes = ['5" pipe', "a\nb", '"', '""', 'say "hi", twice: "hi"', "x,y", ""]
    with (tmp_path / "pairs.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["user_id", "item_id", "note"])
        writer.writerows(["10", "1001", note] for note in notes)
    assert do(Score(), tmp_path / "pairs.csv", format=format).rows_out == len(notes)
    part = tmp_path / "out" / f"part-00000.{format}"
    found = {
        "csv": lambda: rows_of(part),
        "jsonl": lambda: [json.loads(line) for line in part.read_text().splitlines()],
        "parquet": lambda: pq.read_table(part).to_pylist(),
    }[format]()
    assert [row["note"] for row in found] == notes


def test_a_row_with_too_many_cells_that_are_no_text(tmp_path: Path, do: DoJob) -> None:
    (tmp_path / "pairs.csv").write_bytes(
        b"user_id,item_id,note\n10,1001,\xff,more\n10,1001,\xc3\xa9t\xc3\xa9\n10,1001,\xfe\n"
    )
    summary = do(Score(), tmp_path / "pairs.csv", on_bad_row="quarantine")
    assert (summary.rows_out, summary.quarantined) == (1, 2)
    assert read(tmp_path / "out")["note"].to_pylist() == ["été"]
    (bad,) = (tmp_path / "out" / "_quarantine").iterdir()
    found = [json.loads(line) for line in bad.read_text().splitlines()]
    assert [(row["line"], row["reason"], row["value"]) for row in found] == [
        (2, "4 cells where the heading has 3", "10,1001,\\xff,more"),
        (4, "not UTF-8", "\\xfe"),
    ]


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.string_view()])
def test_parquet_text_that_is_no_text_is_a_bad_row(kind: pa.DataType, tmp_path: Path, do: DoJob) -> None:
    note = pa.array([b"a", b"\xff", None, b"c"]).view(pa.string()).cast(kind, safe=False)
    table = pa.table({"user_id": [10] * 4, "item_id": [1001] * 4, "note": note})
    pq.write_table(table, tmp_path / "pairs.parquet")
    summary = do(Score(), tmp_path / "pairs.parquet", on_bad_row="quarantine", format="jsonl")
    assert (summary.rows_out, summary.quarantined) == (3, 1)
    (bad,) = (tmp_path / "out" / "_quarantine").iterdir()
    found = json.loads(bad.read_text())
    assert (found["row"], found["column"], found["value"]) == (2, "note", "\\xff")
