"""Netflix' blocks -> rows."""

from __future__ import annotations

from pathlib import Path

import pytest

from serve.errors import InputError
from serve.reading.files import open_source
from serve.reading.netflix import NAMES


def test_blocks(tmp_path: Path) -> None:
    path = tmp_path / "combined_data_1.txt"
    path.write_bytes(b"1:\n1488844,3,2005-09-06\n\n822109,5\nx\xff,1,2\n2:\r\n 885013 ,4,2005-10-19\r\n")
    (rows,) = open_source(path).read()
    assert rows.table.to_pylist() == [
        dict(zip(NAMES, ("1", "1488844", "3", "2005-09-06"), strict=True)),
        dict(zip(NAMES, ("2", "885013", "4", "2005-10-19"), strict=True)),
    ]
    assert list(rows.numbers) == [2, 7]
    assert [(row.line, row.reason) for row in rows.refused] == [
        (4, "2 cells where a rating has 3"),
        (5, "not UTF-8"),
    ]
    assert rows.n_blank == 1
    (some,) = open_source(path).read(["rating", "item_id"])
    assert some.table.column_names == ["rating", "item_id"]


def test_a_text_file_of_another_kind_needs_a_delimiter(tmp_path: Path) -> None:
    (tmp_path / "r.txt").write_text("user_id,item_id\n1,2\n")
    with pytest.raises(InputError, match="--delimiter"):
        open_source(tmp_path / "r.txt")
    (tmp_path / "r.csv").write_text("1:\n1,2,2005-09-06\n")
    with pytest.raises(InputError, match=r"blocks that begin with '1:'.*name it \.txt"):
        open_source(tmp_path / "r.csv")
