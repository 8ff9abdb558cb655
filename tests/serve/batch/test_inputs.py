"""Which files an input is, and which of their columns and cells are read."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fixture_bundles import FIXTURES

from serve.batch.csv_source import CsvSource
from serve.batch.inputs import find_files
from serve.batch.recommend import Recommend
from serve.batch.score import Score
from serve.errors import BadRowError, InputError

from .conftest import DoJob, make_pairs, read

PAIR = {"user_id": [10], "item_id": [1001]}


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Files at several depths, one folder of them behind a link, and a link that leads back."""
    root, elsewhere = tmp_path / "in", tmp_path / "elsewhere"
    for path in (root / "a.csv", root / "b" / "c.csv", root / "b" / "d" / "e.parquet", elsewhere / "f.csv"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"user_id,item_id\n")
    for hidden in ("_old/g.csv", ".h/i.csv", "b/_j.csv"):
        path = root / hidden
        path.parent.mkdir(exist_ok=True)
        path.touch()
    (root / "b" / "l").symlink_to(elsewhere)
    (root / "b" / "back").symlink_to(root)
    return root


def names(asked: Path | str) -> list[str]:
    return [name for name, _ in find_files(str(asked))]


def test_a_folder_is_all_that_is_below_it_also_behind_links(tree: Path) -> None:
    below = ["b/c.csv", "b/d/e.parquet", "b/l/f.csv"]
    assert names(tree) == ["a.csv", *below]
    assert names(f"{tree}/*") == ["a.csv", *below], "a folder that a glob matches is its files"
    assert names(f"{tree}/b") == [name.removeprefix("b/") for name in below]
    assert names(f"{tree}/*.csv") == ["a.csv"]
    assert names(tree / "a.csv") == ["a.csv"]


def test_each_file_is_read_once_however_it_is_spelled(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tree / "a-link-first.csv").symlink_to(tree / "a.csv")
    (tree / "latest").symlink_to(tree / "b")
    (tree / "b" / "up").symlink_to("..")
    below = names(tree)
    assert below == ["a.csv", "b/c.csv", "b/d/e.parquet", "b/l/f.csv"]
    assert names(f"{tree}/**") == names(f"{tree}/*") == below
    assert names(f"{tree}/**/*.csv") == ["a.csv", "b/c.csv"], "as in a shell, it goes into no links"
    assert names(f"{tree}/_old/*") == ["g.csv"], "asked for by name"
    monkeypatch.chdir(tree)
    assert names(".") == names("*") == below


def test_what_would_be_left_out_unasked_is_refused(tree: Path) -> None:
    (tree / "b" / "more.csv.gz").touch()
    for asked in (str(tree), f"{tree}/*"):
        with pytest.raises(InputError, match=r"more\.csv\.gz is compressed"):
            find_files(asked)
    (tree / "b" / "more.csv.gz").unlink()
    (tree / "gone.csv").symlink_to(tree / "nowhere")
    for asked in (str(tree), f"{tree}/gone*"):
        with pytest.raises(InputError, match=r"gone\.csv is a link to nothing"):
            find_files(asked)
    os.mkfifo(tree / "pipe.csv")
    with pytest.raises(InputError, match=r"pipe\.csv is neither a file nor a folder"):
        find_files(str(tree / "pipe.csv"))


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


def test_a_byte_order_mark_within_a_file_is_text_wherever_a_batch_begins(tmp_path: Path) -> None:
    path, mark = tmp_path / "marks.csv", "\ufeff"
    path.write_text(f"{mark}note,user_id\n{mark}a,10\n{mark}b,20\n{mark}{mark}c,30\n")
    source = CsvSource(path)
    (cut,) = source.cuts(100)
    for batch_rows in (1, 2, 3):
        rows = source.read(cut.start, cut.stop, 1, batch_rows)
        notes = [note for batch in rows for note in batch.table["note"].to_pylist()]
        assert notes == [f"{mark}a", f"{mark}b", f"{mark}{mark}c"]


def test_a_file_that_goes_while_it_is_read_is_an_input_that_can_not_be_read(tmp_path: Path) -> None:
    path = tmp_path / "pairs.csv"
    path.write_text("user_id,item_id\n10,1001\n")
    source = CsvSource(path)
    path.unlink()
    with pytest.raises(InputError, match=r"pairs\.csv can't be read: No such file"):
        list(source.read(0, 10, 1, 1))
