"""Cells -> ids, numbers, times; names -> columns. Every Arrow type of strings gives the same."""

from __future__ import annotations

from datetime import UTC, datetime

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve.errors import InputError
from serve.reading.cells import parse_integer, parse_number
from serve.reading.columns import find_columns
from serve.reading.ids import as_ids, as_written, holds_ids, why_not
from serve.reading.numbers import as_numbers
from serve.reading.times import as_seconds

TEXT_TYPES = [pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int32(), pa.string())]
INT64 = pa.int64()

INTEGERS = {"7": 7, "-3": -3, "0": 0, "007": 7, "-0": 0, str(2**63 - 1): 2**63 - 1, str(-(2**63)): -(2**63)}
NO_INTEGERS = [
    "",
    " 7",
    "7 ",
    "9" * 19,
    *["x", "0x1F", "0X1f", "4_2", "+5", "1.0", "1e3", "٣", "１", "-", "0b1"],
]


@pytest.mark.parametrize("kind", TEXT_TYPES, ids=str)
def test_only_plain_decimal_integers_are_integers(kind: pa.DataType) -> None:
    for text in [*INTEGERS, *NO_INTEGERS]:
        column = pa.array([text, "12", None], pa.string()).cast(kind)
        assert as_ids(column, INT64).to_pylist() == [INTEGERS.get(text), 12, None]
        assert parse_integer(text) == INTEGERS.get(text)


@pytest.mark.parametrize("kind", TEXT_TYPES, ids=str)
@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (["7", "-3", "0"], [7, -3, 0]),
        (["0155061224", "034545104X"], ["0155061224", "034545104X"]),
        (["0108775015", "7"], ["0108775015", "7"]),
        (["7", "-0"], ["7", "-0"]),
        (["0x1F", "2"], ["0x1F", "2"]),
        (["7", "", None], ["7", None, None]),
        (["NA", "null"], ["NA", "null"]),
    ],
)
def test_ids_of_new_data_are_integers_or_what_is_written(
    texts: list[str], expected: list[object], kind: pa.DataType
) -> None:
    found = as_written(pa.array(texts, pa.string()).cast(kind), is_text=True)
    assert found.cast(pa.string()).to_pylist() == [None if id is None else str(id) for id in expected]
    if None not in expected:
        assert found.to_pylist() == expected
    typed = as_written(pa.array(texts, pa.string()).cast(kind), is_text=False)
    assert typed.to_pylist() == [text or None for text in texts], "where types are known, they decide"


@given(st.lists(st.one_of(st.integers(-(2**63), 2**63 - 1).map(str), st.text("0123456789-x", min_size=1))))
def test_an_id_that_became_an_integer_can_be_written_as_it_was(texts: list[str]) -> None:
    assert as_written(pa.array(texts, pa.string()), is_text=True).cast(pa.string()).to_pylist() == texts


def test_which_types_hold_ids() -> None:
    for kind in (*TEXT_TYPES, pa.int8(), pa.uint64(), pa.dictionary(pa.int8(), pa.int32()), pa.null()):
        assert holds_ids(kind)
    for kind in (pa.float64(), pa.bool_(), pa.binary(), pa.timestamp("s"), pa.list_(pa.int64())):
        assert not holds_ids(kind)
    assert as_ids(pa.array([1, 2**64 - 1], pa.uint64()), INT64).to_pylist() == [1, None]
    assert as_ids(pa.array([7, None]), pa.string()).to_pylist() == ["7", None]


def test_what_is_wrong_with_an_id_is_said() -> None:
    assert why_not("") == why_not(None) == "no id"
    assert "astype('Int64')" in why_not("3.0")
    assert "all of their digits" in why_not("1.55061E+08")
    assert why_not("x") == "not an integer of 64 bits"


@pytest.mark.parametrize("kind", TEXT_TYPES, ids=str)
def test_a_float_in_text_is_no_id_whatever_the_type_of_the_others(kind: pa.DataType) -> None:
    """pandas writes nullable integers so, spreadsheets long ones: another id, or several in one."""
    floats = ["1.0", "-7.00", "1.55061E+08", "9.7e+12", "1e+05", "2E+05"]
    for others in (["2", "3"], ["034545104X", "3"], ["1.5", "12e4", "v1.0", "1.0.0", "1."]):
        column = pa.array([*floats, *others], pa.string()).cast(kind)
        for to in (None, pa.string()):
            found = as_written(column, is_text=True, to=to).to_pylist()
            assert found[: len(floats)] == [None] * len(floats)
            assert [str(id) for id in found[len(floats) :]] == others
        assert as_written(column, is_text=False).to_pylist() == column.cast(pa.string()).to_pylist()
    assert as_ids(pa.array(floats).cast(kind), INT64).null_count == len(floats)


def test_decimals_without_a_fraction_are_integers() -> None:
    """As Spark and Snowflake write them."""
    column = pa.array([7, 10**30, None], pa.decimal128(38, 0))
    assert holds_ids(column.type)
    assert not holds_ids(pa.decimal128(10, 2))
    assert as_ids(column, INT64).to_pylist() == as_written(column, False).to_pylist() == [7, None, None]
    assert as_ids(column, pa.string()).to_pylist() == ["7", str(10**30), None]


@pytest.mark.parametrize("kind", TEXT_TYPES, ids=str)
def test_numbers(kind: pa.DataType) -> None:
    good = {"3": 3.0, "3.5": 3.5, ".5": 0.5, "5.": 5.0, "-1e2": -100.0, "+4": 4.0}
    bad = ["", "good", "nan", "inf", "-inf", "1e300", "4,5", "1_0", "３", "0x1", " 3"]
    texts = [*good, *bad, None]
    found = as_numbers(pa.array(texts, pa.string()).cast(kind), pa.float32())
    assert found.to_pylist() == [*good.values(), *[None] * (len(bad) + 1)]
    for text in texts:  # alone, as among others
        alone = as_numbers(pa.array([text], pa.string()).cast(kind), pa.float32())
        assert alone.to_pylist() == [good.get(text or "")]
        if text in good:
            assert parse_number(text) == good[text]
        elif text not in (None, "1e300", " 3"):  # no float32; with a blank, as a command line may have it
            with pytest.raises(ValueError, match="not a finite decimal number"):
                parse_number(text)
    assert as_numbers(pa.array([[3.0]]), pa.float32()).null_count == 1
    assert as_numbers(pa.array([True]), pa.float32()).null_count == 1
    assert as_numbers(pa.array([1, None]), pa.float32()).to_pylist() == [1.0, None]


NOON = int(datetime(1997, 12, 4, 12, tzinfo=UTC).timestamp())


FIRST = -62135596800  # 0001-01-01
NUMBERS = {
    **dict.fromkeys(
        ["881236800", "881236800.9", "8.812368e8", "881236800123"], NOON
    ),  # the last: milliseconds
    **{"0": 0, "-1.5": -2, str(FIRST): FIRST},
    **dict.fromkeys([str(FIRST - 1), "1600000000000000", "1e40", "nan", "soon", "", None]),
}
DATES = {
    **dict.fromkeys(["1997-12-04 12:00:00", "1997-12-04T12:00", "1997-12-04T12:00:00.999Z"], NOON),
    **{"1997-12-04 13:00:00+01:00": NOON, "1997-12-04": NOON - 12 * 3600},
    **{"0001-01-01": FIRST, "1969-12-31 23:59:59.5": -1},
    **dict.fromkeys(["1997-13-04", "19971204", "881236800", "", None]),
}


@pytest.mark.parametrize("kind", TEXT_TYPES, ids=str)
def test_times_as_text(kind: pa.DataType) -> None:
    for texts, others in ((NUMBERS, ["881236800"]), (DATES, ["1997-12-04 12:00:00", "1997-12-04T12:00:00Z"])):
        for text, seconds in texts.items():
            for other in others:
                column = pa.array([text, other], pa.string()).cast(kind)
                assert as_seconds(column, dates=texts is DATES).to_pylist() == [seconds, NOON], text


def test_times_of_typed_columns() -> None:
    noon = datetime(1997, 12, 4, 12, tzinfo=UTC)
    for kind in (pa.timestamp("ns", "UTC"), pa.timestamp("us", "Europe/Berlin"), pa.timestamp("s")):
        assert as_seconds(pa.array([noon, None]).cast(kind, safe=False)).to_pylist() == [NOON, None]
    assert as_seconds(pa.array([noon.date()])).to_pylist() == [NOON - 12 * 3600]
    for kind in (pa.int64(), pa.uint64(), pa.float64()):
        assert as_seconds(pa.array([NOON, NOON * 1000, None]).cast(kind)).to_pylist() == [NOON, NOON, None]
    assert as_seconds(pa.array([1], pa.duration("s"))).to_pylist() == [None]


@pytest.mark.parametrize(
    ("names", "user", "item"),
    [
        (["movieId", "userId"], "userId", "movieId"),
        (["User-ID", "Movie Id"], "User-ID", "Movie Id"),
        (["user", "userId", "movie", "item"], "userId", "item"),
    ],
)
def test_columns_in_any_usual_spelling(names: list[str], user: str, item: str) -> None:
    assert find_columns(names, {"user": None, "item": None}, "f") == {"user": user, "item": item}


@pytest.mark.parametrize(
    ("names", "roles", "message"),
    [
        ("who item_id", {"user": None, "item": None}, r"for user \(user_id or user\).*who, item_id"),
        ("a b", {"user": "c", "item": "b"}, r"no column for user \(c\)"),
        (
            "user_id userId item",
            {"user": None, "item": None},
            "several columns for user: 'user_id' and 'userId'",
        ),
        ("item", {"user": "item", "item": None}, "one column for two roles"),
        ("196 242 3", {"user": None}, "first line looks like data"),
    ],
)
def test_missing_and_ambiguous_columns(names: str, roles: dict[str, str | None], message: str) -> None:
    with pytest.raises(InputError, match=message):
        find_columns(names.split(), roles, "f")
