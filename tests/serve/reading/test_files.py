"""Which files an input is."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from serve.errors import InputError
from serve.reading.files import find_files, open_source
from serve.reading.text import TextSource


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


def test_files_of_a_folder_that_are_no_tables_are_named(tree: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert len(names(tree)) == 4
    assert not caplog.messages
    for name in ("more.txt", "b/2023.csv.Z", "b/d/x.orc"):
        (tree / name).write_bytes(b"user_id,item_id\n")
    assert len(names(tree)) == 4
    assert "not read: 3 files whose names end otherwise" in caplog.text
    assert ".ndjson: 2023.csv.Z, more.txt, x.orc" in caplog.text
    find_files(str(tree), quiet=True)
    names(f"{tree}/*.csv")
    assert len(caplog.messages) == 1


def test_brackets_of_a_folder_that_is_there_are_its_name(tree: Path) -> None:
    for folder in ("d[1]", "d1", "d2"):
        (tree / folder).mkdir()
        (tree / folder / f"{folder[:2]}.csv").write_bytes(b"user_id,item_id\n")
    (tree / "d1" / "other.csv").write_bytes(b"user_id,item_id\n")
    assert names(f"{tree}/d[1]/*.csv") == ["d[.csv"]
    assert names(f"{tree}/d[1]/**/*.csv") == ["d[.csv"]
    assert names(f"{tree}/d[12]/*.csv") == ["d1/d1.csv", "d1/other.csv", "d2/d2.csv"]


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


def test_compressed_files_and_broken_links_are_refused(tree: Path) -> None:
    (tree / "b" / "more.csv.xz").touch()
    for asked in (str(tree), f"{tree}/*"):
        with pytest.raises(InputError, match=r"more\.csv\.xz is compressed"):
            find_files(asked)
    (tree / "b" / "more.csv.xz").unlink()
    (tree / "gone.csv").symlink_to(tree / "nowhere")
    for asked in (str(tree), f"{tree}/gone*"):
        with pytest.raises(InputError, match=r"gone\.csv is a broken link"):
            find_files(asked)
    os.mkfifo(tree / "pipe.csv")
    with pytest.raises(InputError, match=r"pipe\.csv is neither a file nor a folder"):
        find_files(str(tree / "pipe.csv"))


def test_parts_are_never_left_out(tree: Path) -> None:
    """But for empty ones, which Spark writes for empty partitions."""
    (tree / "b" / "empty.csv").touch()
    assert names(tree) == ["a.csv", "b/c.csv", "b/d/e.parquet", "b/l/f.csv"]
    (tree / "b" / "part-00000").write_text("1,2")
    (tree / "notes.txt").write_text("no part")
    assert names(tree) == ["a.csv", "b/c.csv", "b/d/e.parquet", "b/l/f.csv", "b/part-00000"]
    with pytest.raises(InputError, match=r"part-00000: its name must end in"):
        open_source(tree / "b" / "part-00000")
    assert names(tree / "b" / "empty.csv") == ["empty.csv"], "asked for by name"


def test_the_ending_says_what_a_file_is(tmp_path: Path) -> None:
    for name, delimiter in (("a.csv", ","), ("a.TSV", "\t"), ("a.inter", "\t")):
        (tmp_path / name).write_text(f"user_id{delimiter}item_id\n1{delimiter}2\n")
        source = open_source(tmp_path / name)
        assert isinstance(source, TextSource)
        assert source.schema.names == ["user_id", "item_id"]
    (tmp_path / "b.csv").write_text("user_id;item_id\n1;2\n")
    assert open_source(tmp_path / "b.csv", ";").schema.names == ["user_id", "item_id"]
    (tmp_path / "b.dat").write_bytes((tmp_path / "b.csv").read_bytes())
    assert open_source(tmp_path / "b.dat", ";").schema.names == ["user_id", "item_id"]
    (tmp_path / "c.dat").write_bytes(b"1;2\n")
    assert open_source(tmp_path / "c.dat", ";", "p, q").schema.names == ["p", "q"]
    (tmp_path / "a.parquet").write_text("no")
    with pytest.raises(InputError, match="can't be read as Parquet"):
        open_source(tmp_path / "a.parquet")
    (tmp_path / "a.xlsx").touch()
    with pytest.raises(InputError, match=r"must end in \.parquet, \.pq, \.csv.*--delimiter"):
        open_source(tmp_path / "a.xlsx")
    for name in ("a.csv.zip", "a.json.xz", "a.parquet.gz"):
        (tmp_path / name).touch()
        for read in (open_source, lambda path: find_files(str(path))):
            with pytest.raises(InputError, match="is compressed in a way that is not read"):
                read(tmp_path / name)


def test_a_file_that_goes_while_it_is_read_is_an_input_that_can_not_be_read(tmp_path: Path) -> None:
    path = tmp_path / "pairs.csv"
    path.write_text("user_id,item_id\n10,1001\n")
    source = TextSource(path)
    path.unlink()
    with pytest.raises(InputError, match=r"pairs\.csv can't be read: No such file"):
        list(source.read())


@pytest.mark.parametrize("first", ["user_id,item_id", "userId, movieId ,x", '"p","q"'])
def test_names_for_a_file_that_names_its_columns_are_refused(first: str, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(f"{first}\n1,2\n")
    with pytest.raises(InputError, match="names the columns: leave out --heading"):
        open_source(tmp_path / "a.csv", heading="p,q")


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"\x1f\x8b\x08", "gzip"),
        (b"PAR1\x15", "Parquet"),
        (b"PK\x03\x04", "spreadsheet"),
        (b"BZh9", "bzip2"),
        (b"\xfd7zXZ\0\0", "xz"),
        (b"\x04\x22\x4d\x18dp", "LZ4"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "spreadsheet"),
        (b"ARROW1\0\0\xff", "Feather"),
        (b"Obj\x01\x04\x16avro", "Avro"),
        (b"SQLite format 3\0", "SQLite"),
        (b"<!DOCTYPE html>\n<html>", "HTML"),
        (b"version https://git-lfs.github.com/spec/v1\noid", "LFS"),
        (b"ratings.csv" + b"\0" * 500, "zero bytes"),
    ],
)
@pytest.mark.parametrize("name", ["a.csv", "a.jsonl"])
def test_what_is_no_text_is_named(name: str, content: bytes, kind: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=f"is no text.*{kind}"):
        open_source(tmp_path / name)
