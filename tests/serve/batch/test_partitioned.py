"""Outputs in folders of the values of a column, as Hive and Spark write them."""

from __future__ import annotations

import datetime as dt
import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from serve.batch.job_folder import SUCCESS
from serve.batch.partitioned import MOST_VALUES
from serve.batch.recommend import Recommend
from serve.batch.score import Score
from serve.errors import BadRowError, InputError
from serve.reading.files import find_files
from serve.reading.partitions import partitions

from .conftest import BUNDLE, DoJob, contents, make_pairs

HARD = ["a/b", "..", "", "=", "%41", "a b", "é", "__HIVE_DEFAULT_PARTITION__", None, "007", "_x", "."]


@pytest.fixture
def days(tmp_path: Path) -> Path:
    """1,000 pairs in row groups of 100, with the columns `day` and `text`."""
    table = make_pairs(BUNDLE, 1000)
    table = table.append_column("day", [[i % 7 for i in range(1000)]])
    table = table.append_column("text", [[HARD[i % len(HARD)] for i in range(1000)]])
    path = tmp_path / "days.parquet"
    pq.write_table(table, path, row_group_size=100)
    return path


@pytest.mark.parametrize("format", ["parquet", "jsonl"])
@pytest.mark.parametrize("column", ["day", "text", "known"])
def test_every_row_is_in_the_folder_of_its_value(
    do: DoJob, days: Path, tmp_path: Path, column: str, format: Any
) -> None:
    do(Score(), days, part_rows=300, format="parquet")
    whole = pa.concat_tables(map(pq.read_table, sorted((tmp_path / "out").glob("*.parquet")))).to_pylist()
    shutil.rmtree(tmp_path / "out")
    summary = do(Score(), days, part_rows=300, format=format, partition_by=column)
    assert summary.rows_out == sum(part.rows for part in summary.parts) == 1000
    named = find_files(str(tmp_path / "out"))
    found = []
    for (_, path), values in zip(named, partitions([name for name, _ in named]), strict=True):
        rows = (
            pq.read_table(path).to_pylist()
            if format == "parquet"
            else [json.loads(line) for line in path.read_text().splitlines()]
        )
        assert all(column not in row for row in rows)
        value = values[column]
        found += [{"note": row["note"], "score": row["score"], column: str(value)} for row in rows]

    def expected(row: dict[str, Any]) -> dict[str, Any]:
        value = str(row[column]).lower() if column == "known" else str(row[column])
        return {"note": row["note"], "score": row["score"], column: value}

    def key(row: dict[str, Any]) -> str:
        return repr(sorted(row.items()))

    assert sorted(map(key, found)) == sorted(map(key, map(expected, whole)))


def test_other_readers_find_the_same(do: DoJob, days: Path, tmp_path: Path) -> None:
    do(Score(), days, part_rows=300, partition_by="day")
    table = ds.dataset(tmp_path / "out", partitioning="hive", format="parquet").to_table()
    assert sorted(table["day"].to_pylist()) == sorted(pq.read_table(days)["day"].to_pylist())
    order = [name for name in table.column_names if name != "day"]
    assert order == ["when", "user_id", "item_id", "note", "text", "score", "known"]


def test_a_stopped_job_is_resumed_and_a_finished_one_stays(do: DoJob, days: Path, tmp_path: Path) -> None:
    job: dict[str, Any] = {"part_rows": 300, "partition_by": "day"}
    whole = do(Score(), days, **job)
    expected = contents(tmp_path / "out")
    assert do(Score(), days, resume=True, **job) == whole
    shutil.rmtree(tmp_path / "out")

    def stop(n: int) -> None:
        nonlocal rows
        rows += n
        if rows > 500:
            raise KeyboardInterrupt

    rows = 0
    with pytest.raises(KeyboardInterrupt):
        do(Score(), days, on_rows=stop, **job)
    partial = tmp_path / ".out.partial"
    finished = sorted(partial.glob("day=3/part-*.parquet"))
    assert finished
    finished[0].write_bytes(finished[0].read_bytes()[::-1])  # a part that has changed is made again
    do(Score(), days, resume=True, **job)
    assert contents(tmp_path / "out") == expected
    assert not list((tmp_path / "out").rglob(".*"))


def test_bad_rows_are_kept_where_no_part_is(do: DoJob, tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text("user_id,item_id,day\n1.0,1,2\n")
    with pytest.raises(BadRowError):
        do(Score(), tmp_path / "in.csv", partition_by="day")
    summary = do(Score(), tmp_path / "in.csv", partition_by="day", on_bad_row="quarantine")
    assert (summary.parts, summary.quarantined) == ([], 1)
    assert set(contents(tmp_path / "out")) == {SUCCESS, "_quarantine/part-00000.jsonl"}


def test_lists_by_whether_the_user_is_known(do: DoJob, tmp_path: Path) -> None:
    do(Recommend(), None, partition_by="known")
    assert [path.name for path in (tmp_path / "out").iterdir() if path.is_dir()] == ["known=true"]


@pytest.mark.parametrize(
    ("column", "said"),
    [
        ("nothing", "Name one of them"),
        ("score", "hold text, integers"),
        ("when", "hold text, integers"),
        ("_hidden", "begin with _"),
        ("note", f"more than {MOST_VALUES} values"),
        ("long", "too long for the name of a folder: its 305 bytes"),
    ],
)
def test_columns_that_are_refused(do: DoJob, tmp_path: Path, column: str, said: str) -> None:
    table = make_pairs(BUNDLE, 1000).append_column("_hidden", [[1] * 1000])
    table = table.append_column("long", [["é" * 50] * 1000])
    pq.write_table(table, tmp_path / "in.parquet")
    with pytest.raises(InputError, match=said):
        do(Score(), tmp_path / "in.parquet", partition_by=column)
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / ".out.partial").exists()


def test_dates_and_categories(do: DoJob, tmp_path: Path) -> None:
    table = make_pairs(BUNDLE, 4)
    table = table.append_column("date", pa.array([dt.date(2026, 1, 1 + i % 2) for i in range(4)]))
    table = table.append_column("kind", pa.array(["x", "y", "x", None]).dictionary_encode())
    pq.write_table(table, tmp_path / "in.parquet")
    do(Score(), tmp_path / "in.parquet", partition_by="date")
    assert {path.name for path in (tmp_path / "out").glob("date=*")} == {"date=2026-01-01", "date=2026-01-02"}
    do(Score(), tmp_path / "in.parquet", partition_by="kind", overwrite=True)
    assert {path.name for path in (tmp_path / "out").glob("kind=*")} == {
        "kind=x",
        "kind=y",
        "kind=__HIVE_DEFAULT_PARTITION__",
    }


def test_the_command(recsys: Any, days: Path, tmp_path: Path) -> None:
    line = ("score", BUNDLE, "--device", "cpu", "--input", days, "--output", tmp_path / "out")
    code, out, _ = recsys(*line, "--partition-by", "day")
    assert (code, "parts: 7" in out) == (0, True)
    code, _, err = recsys(*line, "--partition-by", "date", "--overwrite")
    assert code == 2
    assert "--partition-by date" in err
