"""Which columns and cells of an input are read."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fixture_bundles import FIXTURES

from serve.batch.recommend import Recommend
from serve.batch.score import Score
from serve.errors import BadRowError, InputError

from .conftest import DoJob, make_pairs, read

PAIR = {"user_id": [10], "item_id": [1001]}


def test_more_files_than_may_be_open(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for number in range(150):
        pq.write_table(pa.table(PAIR), tmp_path / "in" / f"{number:03d}.parquet")
    limit = (100, resource.getrlimit(resource.RLIMIT_NOFILE)[1])
    done = subprocess.run(
        [
            *(sys.executable, "-m", "recsys", "score", str(FIXTURES / "dot-bias"), "--device", "cpu"),
            *("--input", str(tmp_path / "in"), "--output", str(tmp_path / "out"), "--json"),
        ],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, limit),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["rows_out"] == 150


def test_a_dictionary_is_its_values(tmp_path: Path, do: DoJob) -> None:
    """pandas' categories: as large a dictionary with each batch as with all would be written each time."""
    pairs = make_pairs(FIXTURES / "dot-bias", 20_000)
    pairs = pairs.set_column(3, "note", pa.array([f"a note of its own {n}" for n in range(len(pairs))]))
    for name in ("note", "user_id"):
        place = pairs.schema.get_field_index(name)
        coded = pairs.set_column(place, name, pairs[name].dictionary_encode())
        pq.write_table(coded, tmp_path / f"{name}.parquet")
    pq.write_table(pairs, tmp_path / "plain.parquet")
    sizes = []
    for name in ("plain", "note", "user_id"):
        do(Score(), tmp_path / f"{name}.parquet", output=str(tmp_path / name), batch_rows=200)
        assert read(tmp_path / name).equals(read(tmp_path / "plain"))
        (part,) = (tmp_path / name).glob("part-*.parquet")
        sizes.append(part.stat().st_size)
        assert pq.ParquetFile(part).num_row_groups == 1
    assert max(sizes) < 1.1 * min(sizes)


NOT_UTF8 = pa.array([b"a", b"\xff", None, b"c"]).view(pa.string())


CODED = pa.DictionaryArray.from_arrays(pa.array([0, 1, None, 0], pa.int32()), NOT_UTF8[:2])


@pytest.mark.parametrize(
    "note",
    [
        NOT_UTF8,
        CODED,
        pa.ListArray.from_arrays([0, 1, 2, 3, 4], NOT_UTF8),
        pa.ListArray.from_arrays([0, 1, 2, 3, 4], CODED),
        pa.ListViewArray.from_arrays([0, 1, 2, 3], [1, 1, 1, 1], NOT_UTF8),
        pa.StructArray.from_arrays([NOT_UTF8], ["text"]),
        # A time after midnight is nothing to be quarantined for.
        pa.StructArray.from_arrays(
            [NOT_UTF8, pa.array([1, 2, 3, 1 << 50], pa.time64("us"))], ["text", "time"]
        ),
    ],
    ids=["text", "dictionary", "list", "list of codes", "list view", "struct", "struct and time"],
)
@pytest.mark.parametrize("format", ["parquet", "jsonl"])
def test_text_that_is_none_is_found_wherever_it_lies(
    note: pa.Array, format: str, tmp_path: Path, do: DoJob
) -> None:
    table = pa.table({"user_id": [10] * 4, "item_id": [1001] * 4, "note": note})
    pq.write_table(table, tmp_path / "pairs.parquet")
    with pytest.raises(BadRowError, match=r"row 2: note .*xff.*: not UTF-8"):
        do(Score(), tmp_path / "pairs.parquet", format=format)
    summary = do(Score(), tmp_path / "pairs.parquet", on_bad_row="quarantine", format=format, overwrite=True)
    assert (summary.rows_out, summary.quarantined) == (3, 1)


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_lists_need_the_users_only(kind: str, tmp_path: Path, do: DoJob) -> None:
    path = tmp_path / f"users.{kind}"
    if kind == "csv":
        path.write_bytes(b"name,user_id\n\xff,10\nb,20\n")
    else:
        name = pa.array([b"\xff", b"b"]).view(pa.string())
        pq.write_table(pa.table({"name": name, "user_id": [10, 20]}), path)
    summary = do(Recommend(), path)
    assert summary.rows_out == 2
    with pytest.raises(InputError, match="has no column item_id"):
        do(Score(), path, output=str(tmp_path / "other"))
