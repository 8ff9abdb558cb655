"""Compressed text gives the same rows as the text itself; what is cut off or damaged gives none."""

from __future__ import annotations

import bz2
import gzip
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest

from serve.errors import InputError
from serve.reading.files import find_files, open_source


def by_arrow(codec: str) -> Callable[[bytes], bytes]:
    def compress(data: bytes) -> bytes:
        sink = pa.BufferOutputStream()
        with pa.CompressedOutputStream(sink, codec) as stream:
            stream.write(data)
        packed: bytes = sink.getvalue().to_pybytes()
        return packed

    return compress


PACK = {".gz": gzip.compress, ".bz2": bz2.compress, ".zst": by_arrow("zstd"), ".lz4": by_arrow("lz4")}
CONTENTS = {
    ".csv": b'user_id,item_id,note\n1,7,"a\nb"\n\n2,8,c\n3\n',
    ".tsv": b'user_id\titem_id\tnote\n1\t7\t"Weird Al" Yankovic\n2\t8\n',
    ".jsonl": b'{"user_id": 1, "item_id": "07", "note": null}\n{}\nno\n',
    ".inter": b"user_id:token\titem_id:token\n1\t7\n",
    ".txt": b"1:\n7,5,2005-09-06\n\n8,4\n",
}


def read(path: Path) -> list[object]:
    rows = list(open_source(path).read())
    return [
        [row for part in rows for row in part.table.to_pylist()],
        [number for part in rows for number in part.numbers],
        [(row.line, row.reason) for part in rows for row in part.refused],
        sum(part.n_blank for part in rows),
    ]


@pytest.mark.parametrize("codec", PACK)
@pytest.mark.parametrize("ending", CONTENTS)
def test_the_same_rows(ending: str, codec: str, tmp_path: Path) -> None:
    plain, packed = tmp_path / f"r{ending}", tmp_path / f"r{ending}{codec}"
    plain.write_bytes(CONTENTS[ending])
    head, tail = CONTENTS[ending][:9], CONTENTS[ending][9:]
    packed.write_bytes(PACK[codec](head) + PACK[codec](tail))  # in two members, as parallel tools write it
    assert read(packed) == read(plain)
    if ending != ".txt":  # which in a folder may be anything
        assert [name for name, _ in find_files(str(tmp_path))] == [plain.name, packed.name]


@pytest.mark.parametrize("codec", PACK)
def test_what_is_not_whole_gives_no_rows(codec: str, tmp_path: Path) -> None:
    path = tmp_path / f"r.csv{codec}"
    whole = PACK[codec](CONTENTS[".csv"] * 100)
    for spoiled in (whole[:-3], whole[: len(whole) // 2], whole + b"more", CONTENTS[".csv"]):
        path.write_bytes(spoiled)
        with pytest.raises(InputError, match=r"r\.csv.* can't be read: .*Copy it again"):
            read(path)
