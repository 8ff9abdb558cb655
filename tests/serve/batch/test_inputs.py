"""The same pairs in every form that is read give the same scores: one reader, one set of rules."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fixture_bundles import FIXTURES

from serve.batch.recommend import Recommend
from serve.batch.score import Score
from serve.errors import InputError

from .conftest import DoJob, read

PAIRS = [(10, 1001), (20, 1002), (30, 1001)]
CSV = "user_id,item_id\n" + "".join(f"{user},{item}\n" for user, item in PAIRS)


def text(name: str, content: str | bytes) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
        return folder / name

    return write


def parquet(user_type: pa.DataType, item_type: pa.DataType | None = None) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        decimals = [(Decimal(user), Decimal(item)) for user, item in PAIRS]
        users, items = zip(*(decimals if pa.types.is_decimal(user_type) else PAIRS), strict=True)
        table = pa.table(
            {"user_id": pa.array(users, user_type), "item_id": pa.array(items, item_type or user_type)}
        )
        pq.write_table(table, folder / "r.parquet")
        return folder / "r.parquet"

    return write


def hive(folder: Path) -> Path:
    for user, item in PAIRS:
        part = folder / "in" / f"user_id={user}" / "part-0.parquet"
        part.parent.mkdir(parents=True)
        pq.write_table(pa.table({"item_id": [item]}), part)
        (part.parent / ".part-0.parquet.crc").touch()
    (folder / "in" / "_SUCCESS").touch()
    return folder / "in"


def spark(folder: Path) -> Path:
    (folder / "in").mkdir()
    for place, (user, item) in enumerate(PAIRS):
        (folder / "in" / f"part-{place}.csv").write_text(f"user_id,item_id\n{user},{item}\n")
    (folder / "in" / "part-9.csv").touch()
    (folder / "in" / "_SUCCESS").touch()
    return folder / "in"


FORMS: dict[str, tuple[Callable[[Path], Path], dict[str, Any]]] = {
    "csv": (text("r.csv", CSV), {}),
    "spelled": (
        text("r.csv", "\ufeff\n userId , movieId\r\n10, 1001\r\n\r\n 020,01002 \r\n30,\t1001\r\n"),
        {},
    ),
    "semicolon": (text("r.txt", CSV.replace(",", ";")), {"delimiter": ";"}),
    "tab": (text("r.dat", CSV.replace(",", "\t")), {"delimiter": "tab"}),
    "no heading": (text("r.csv", CSV.partition("\n")[2]), {"heading": "user_id,item_id"}),
    "gz": (text("r.csv.gz", gzip.compress(CSV.encode())), {}),
    "json": (
        text("r.jsonl", "".join(json.dumps({"item_id": str(i), "user_id": u}) + "\n" for u, i in PAIRS)),
        {},
    ),
    "int16": (parquet(pa.int16()), {}),
    "uint64": (parquet(pa.uint64(), pa.uint16()), {}),
    "decimal": (parquet(pa.decimal128(38, 0)), {}),
    "dictionary": (parquet(pa.dictionary(pa.int8(), pa.int64())), {}),
    "hive": (hive, {}),
    "spark": (spark, {}),
}


@pytest.mark.parametrize("form", FORMS)
def test_the_same_scores(form: str, tmp_path: Path, do: DoJob) -> None:
    pq.write_table(
        pa.table({"user_id": [10, 20, 30], "item_id": [1001, 1002, 1001]}), tmp_path / "plain.parquet"
    )
    do(Score(), tmp_path / "plain.parquet", output=str(tmp_path / "expected"))
    write, options = FORMS[form]
    summary = do(Score(), write(tmp_path), **options)
    found, expected = read(tmp_path / "out"), read(tmp_path / "expected")
    named = {name.lower()[:4]: found[name].to_pylist() for name in found.column_names}
    ids = zip(named["user"], named.get("item") or named["movi"], strict=True)
    assert [(int(user), int(item)) for user, item in ids] == PAIRS
    assert found["score"].to_pylist() == expected["score"].to_pylist()
    assert found["known"].to_pylist() == [True] * 3
    assert (summary.rows_in, summary.rows_out) == (3, 3)


@pytest.mark.parametrize(
    "kind", [pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int8(), pa.string())]
)
def test_every_type_of_strings(kind: pa.DataType, tmp_path: Path, do: DoJob) -> None:
    users = pa.array(["user-010", " user-010", "alien"]).cast(kind)
    pq.write_table(pa.table({"user_id": users}), tmp_path / "r.parquet")
    do(Recommend(top_k=1), tmp_path / "r.parquet", bundle=str(FIXTURES / "dot-bias-string-ids"))
    assert read(tmp_path / "out")["known"].to_pylist() == [True, False, False], (
        "types are known: no blanks go"
    )


@pytest.mark.parametrize("bundle", ["dot-bias", "dot-bias-string-ids"])
def test_a_float_in_text_is_nobodys_id(bundle: str, tmp_path: Path, do: DoJob) -> None:
    (tmp_path / "r.csv").write_text("user_id\n10.0\nuser-010\n20\n1.5E+08\n")
    summary = do(
        Recommend(top_k=1), tmp_path / "r.csv", bundle=str(FIXTURES / bundle), on_bad_row="quarantine"
    )
    assert (summary.rows_in, summary.quarantined) == (4, 3 if bundle == "dot-bias" else 2)
    written = next((tmp_path / "out" / "_quarantine").iterdir()).read_text()
    bad = [json.loads(line) for line in written.splitlines()]
    assert [row["line"] for row in bad] == ([2, 3, 5] if bundle == "dot-bias" else [2, 5])
    assert "astype('Int64')" in bad[0]["reason"]


def test_a_column_of_another_type_is_refused(tmp_path: Path, do: DoJob) -> None:
    for bundle, ids in (("dot-bias", ["10"]), ("dot-bias-string-ids", [10]), ("dot-bias", [10.0])):
        pq.write_table(pa.table({"user_id": ids}), tmp_path / "r.parquet")
        with pytest.raises(InputError, match="user_id is of type"):
            do(Recommend(), tmp_path / "r.parquet", bundle=str(FIXTURES / bundle))
