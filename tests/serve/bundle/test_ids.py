"""Ids to indices and back: every way against a plain dict."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from serve.bundle.ids import IdIndex, write_items, write_users
from serve.bundle.parquet import write_columns
from serve.errors import BundleError, RequestError

COMPACT = [7, 3, 5, -2, 40]
LOWEST, HIGHEST = [-(2**63), 2 - 2**63], [2**63 - 1, 2**63 - 3]  # compact, at the ends of int64
SPARSE = [2**63 - 1, -(2**63), 0, 10**12]
STRINGS = ["b", "", "Ärger", "7", "a"]


def index(ids: list[Any]) -> IdIndex:
    return IdIndex("user_id", pa.array(ids))


@pytest.mark.parametrize(
    "ids",
    [COMPACT, LOWEST, HIGHEST, SPARSE, STRINGS, [5]],
    ids=["compact", "lowest", "highest", "sparse", "strings", "one"],
)
def test_both_directions_agree_with_a_dict(ids: list[Any]) -> None:
    table = index(ids)
    expected = {value: row for row, value in enumerate(ids, 1)}
    others = ["none"] if table.is_string else [4, 10**15, -(2**62), 1 - 2**63, 2**63 - 2]
    queries = [*ids, *reversed(ids), *others]
    indices = [expected.get(value, 0) for value in queries]
    assert table.lookup(queries).tolist() == indices
    assert table.lookup(queries).dtype == np.int64
    assert [table.lookup_one(value) for value in queries] == indices
    assert table.lookup(pa.array(queries)).tolist() == indices
    assert table.lookup(np.array(queries, dtype=object)).tolist() == indices
    assert table.lookup(np.array(queries)).tolist() == indices
    assert table.ids(np.arange(1, len(ids) + 1)).tolist() == ids
    assert table.one_id(1) == ids[0]
    assert len(table) == len(ids)


@pytest.mark.parametrize(("ids", "padding"), [(COMPACT, -1), (STRINGS, None)], ids=["int64", "strings"])
def test_padding_has_no_id(ids: list[Any], padding: object) -> None:
    assert index(ids).ids(np.array([[1, 0], [0, 2]])).tolist() == [[ids[0], padding], [padding, ids[1]]]


def test_random_ids_agree_with_a_dict(rng: np.random.Generator) -> None:
    for high in (1000, 2**62):
        ids = np.unique(rng.integers(-high, high, 500))
        rng.shuffle(ids)
        queries = np.concatenate([rng.choice(ids, 300), rng.integers(-high - 5, high + 5, 300)])
        expected = {value: row for row, value in enumerate(ids.tolist(), 1)}
        assert index(ids.tolist()).lookup(queries).tolist() == [expected.get(q, 0) for q in queries.tolist()]


def test_small_unsigned_and_narrow_arrays_are_integers_too() -> None:
    for kind in (np.int8, np.uint8, np.int32, np.uint64):
        assert index(COMPACT).lookup(np.array([7, 5], kind)).tolist() == [1, 3]
    assert index(COMPACT).lookup([np.int32(7), 5]).tolist() == [1, 3]
    assert index(COMPACT).lookup(range(3, 8)).tolist() == [2, 0, 3, 0, 1]
    assert index(COMPACT).lookup([]).tolist() == []
    assert index(COMPACT).lookup_one(np.int64(7)) == 1


@pytest.mark.parametrize(
    ("ids", "kind", "wrong"),
    [
        *((COMPACT, "an integer", wrong) for wrong in (7.0, True, None, float("nan"), "7", b"7", 2**63)),
        *((COMPACT, "an integer", wrong) for wrong in (np.float32(7), np.bool_(True))),
        *((STRINGS, "a string", wrong) for wrong in (7, None, 1.5, b"a", True)),
    ],
)
def test_an_id_of_another_type_is_refused_with_its_value(ids: list[Any], kind: str, wrong: Any) -> None:
    table = index(ids)
    for ask in (lambda: table.lookup([ids[0], wrong]), lambda: table.lookup_one(wrong)):
        with pytest.raises(RequestError, match=f"user_id must be {kind}") as caught:
            ask()
        assert repr(wrong) in str(caught.value)


@pytest.mark.parametrize(
    "wrong",
    [
        np.array([7.0]),
        np.array([True]),
        np.array(["7"]),
        pa.array([7.0]),
        pa.array([7, None]),
        pa.array(["7"]),
        np.array([2**64 - 1], np.uint64),
    ],
    ids=["float", "bool", "str", "arrow float", "arrow null", "arrow str", "beyond int64"],
)
def test_arrays_of_another_type_are_refused(wrong: Any) -> None:
    with pytest.raises(RequestError, match="must be an integer"):
        index(COMPACT).lookup(wrong)


def test_typed_text_becomes_an_id() -> None:
    assert index(COMPACT).parse("42") == 42
    assert index(STRINGS).parse("42") == "42"
    for wrong in ("forty-two", "4.2", "4_2", "+42", "0x2A", "４２", "42.0", "9223372036854775808"):
        with pytest.raises(RequestError, match="must be an integer"):
            index(COMPACT).parse(wrong)
    for ids in (COMPACT, ["a"]):
        with pytest.raises(RequestError, match="user_id is empty"):
            index(ids).parse("")
    assert index(STRINGS).parse("") == ""  # an id of its own


def test_typed_text_is_looked_up_as_it_is_and_then_without_spaces() -> None:
    ids = index([" x", "x", "y"])
    found = {text: ids.lookup_text(text) for text in (" x", "x", "x ", " y ", "z", " ", "")}
    assert found == {" x": 1, "x": 2, "x ": 2, " y ": 3, "z": 0, " ": 0, "": 0}
    numbers = index([42, 7])
    assert [numbers.lookup_text(text) for text in ("42", " 7 ", "8", "forty-two")] == [1, 2, 0, 0]


def test_written_and_read_back(tmp_path: Path) -> None:
    write_users(tmp_path / "users.parquet", np.array([30, 10, 20]))
    write_items(tmp_path / "items.parquet", ["x", "y"], titles=["One", None], years=[1999, None])
    assert IdIndex.read(tmp_path / "users.parquet", "user_id", 3).lookup([10, 20, 30]).tolist() == [2, 3, 1]
    assert IdIndex.read(tmp_path / "items.parquet", "item_id", 2).lookup(["y"]).tolist() == [2]


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        ([1, 1], "more than once"),
        ([1, None], "missing"),
        ([], "0 ids"),
        ([1.5], "int64 or str"),
        ([True], "not bool"),
    ],
    ids=["twice", "null", "empty", "float", "bool"],
)
def test_ids_that_can_not_be_written(tmp_path: Path, ids: list[Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        write_users(tmp_path / "users.parquet", ids)


def test_titles_must_fit_the_items(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="1 title values for 2 items"):
        write_items(tmp_path / "items.parquet", [1, 2], titles=["One"])


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"user_id": pa.array([1, 2])}, "2 rows"),
        ({"user_id": pa.array([1, 2, None])}, "missing"),
        ({"user_id": pa.array([1.0, 2.0, 3.0])}, "user_id is double"),
        ({"id": pa.array([1, 2, 3])}, "no column 'user_id'"),
    ],
    ids=["short", "null", "float", "nameless"],
)
def test_a_table_that_does_not_fit_the_manifest(
    tmp_path: Path, columns: dict[str, Any], message: str
) -> None:
    write_columns(tmp_path / "users.parquet", columns)
    with pytest.raises(BundleError, match=message):
        IdIndex.read(tmp_path / "users.parquet", "user_id", 3)


@pytest.mark.parametrize(
    "ids", [[1, 1, 2], ["a", "a", "b"], [1, 1, 10**15]], ids=["compact", "str", "sparse"]
)
def test_an_id_that_comes_twice_is_damage(ids: list[Any]) -> None:
    with pytest.raises(BundleError, match="1 of user_id are there twice"):
        index(ids).lookup(ids)
    assert index(ids).listed(np.array([1, 3, 0, 0])).tolist()[:2] == [ids[0], ids[2]]
    with pytest.raises(BundleError, match="1 of user_id are there twice"):
        index(ids).listed(np.array([2, 1]))


def test_a_file_that_is_not_parquet(tmp_path: Path) -> None:
    write_users(tmp_path / "users.parquet", [1, 2, 3])
    whole = (tmp_path / "users.parquet").read_bytes()
    for damaged in (b"", b"PAR1", whole[:-1], whole[:-8] + b"\xff\xff\xff\xffPAR1", b"x" * len(whole)):
        (tmp_path / "users.parquet").write_bytes(damaged)
        with pytest.raises(BundleError, match="not a whole Parquet file"):
            IdIndex.read(tmp_path / "users.parquet", "user_id", 3)
    footer = len(whole) - 8 - int.from_bytes(whole[-8:-4], "little")
    (tmp_path / "users.parquet").write_bytes(whole[:footer] + b"\xff" * 20 + whole[footer + 20 :])
    with pytest.raises(BundleError, match="can't be read"):
        IdIndex.read(tmp_path / "users.parquet", "user_id", 3)
