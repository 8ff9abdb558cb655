"""Refused data: errors give the number of rows, the first of them, and what to do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from recsys.data import load
from recsys.errors import DataError
from tests.recsys.data.layouts import RATINGS_CSV, U_DATA, Make

Write = Callable[[str, str | bytes], str]

HEADER = "user_id,item_id,rating,timestamp\n"


@pytest.mark.parametrize(
    ("content", "parts"),
    [
        ("\n\n", ["is empty"]),
        (HEADER, ["has no ratings"]),
        (
            "who,item_id,stars\n1,2,3\n",
            ["no column for user (user_id or user). It has: who, item_id, stars", "--user-column"],
        ),
        ("user_id,item_id,rating,rating\n1,2,3,3\n", ["several columns for rating"]),
        (
            HEADER + "1,1,good,1\n\n1,2,3,1\n2,2,,1\n2,3,inf,1\n2,4,NaN,1\n",
            [
                "4 rows",
                "line 2: rating 'good': not a finite",
                "line 5: rating '': no rating",
                "line 6",
                "line 7",
            ],
        ),
        (HEADER + "1,1,1e300,1\n", ["line 2: rating '1e300': not a finite number"]),
        (HEADER + '1,1,"4,5",1\n', ["line 2: rating '4,5'", "a decimal point: write 4.5, not 4,5"]),
        (
            HEADER + "a,1,4,1\n,1,4,1\n1,,4,1\n",
            ["2 rows", "line 3: user_id '': no id", "line 4: item_id '': no"],
        ),
        (
            HEADER + "1,1,4,1\n1,2,3\n1,3,3,3,3\n",
            ["2 rows", "line 3: '1,2,3': 3 cells where the heading has 4", "line 4: '1,3,3,3,3': 5 cells"],
        ),
        (
            HEADER + "1,1,4,7\n1,1,4,soon\n2,1,4,\n2,2,4,2020-01-01\n2,3,4,1600000000000000\n",
            ["4 rows", "line 3: timestamp 'soon': no time in the years", "line 4", "--timestamp-column ''"],
        ),
        (
            HEADER + "1,1,4,1\n2,2,3,1\n1,1,5,2\n",
            [
                "2 ratings share their user and item",
                "line 2: '1, 1, 4'",
                "line 4: '1, 1, 5'",
                "--duplicates last",
            ],
        ),
        (b"user_id,item_id,rating\n1,caf\xe9,4\n", [r"line 2: item_id 'caf\\xe9': not UTF-8", "iconv"]),
    ],
)
def test_bad_text(write: Write, content: str | bytes, parts: list[str]) -> None:
    with pytest.raises(DataError) as caught:
        load(write("ratings.csv", content))
    for part in ["ratings.csv", *parts]:
        assert part in str(caught.value)


def test_only_the_first_offending_rows_are_shown_but_all_are_counted(write: Write) -> None:
    rows = "".join(f"{n},1,{'?' if n % 2 else 3}\n" for n in range(3_000))
    with pytest.raises(DataError, match=r"(?s)1,500 rows.*line 3: rating '\?'.*… and 1,495 more") as caught:
        load(write("r.csv", "user_id,item_id,rating\n" + rows))
    assert str(caught.value).count("line ") == 5


def test_rows_of_a_zip_are_quoted_too(make_zip: Make) -> None:
    rows = b"1\t242\t3\t1\n1\t302\tx\t1\n"
    with pytest.raises(DataError, match="line 2: rating 'x'"):
        load(str(make_zip(U_DATA | {"u.data": rows})))
    with pytest.raises(DataError, match="line 3: '1, 242, 3'"):
        load(str(make_zip(U_DATA | {"u.data": rows.replace(b"x", b"4") + b"1\t242\t3\t1\n"})))


@pytest.mark.parametrize(
    ("column", "values", "message"),
    [
        ("user_id", [1, None], "user_id is of type double.*astype"),
        ("item_id", ["a", None], "row 2: item_id None: no id"),
        ("rating", [1.0, None], "row 2: rating None: no rating"),
        ("rating", ["1", "good"], "row 2: rating 'good': not a finite number"),
        ("user_id", [1, 2**64 - 1], "615: not an integer of 64"),
    ],
)
def test_bad_parquet(tmp_path: Path, column: str, values: list[object], message: str) -> None:
    path = tmp_path / "r.parquet"
    frame = {"user_id": [1, 1], "item_id": [1, 2], "rating": [1.0, 2.0]} | {column: values}
    pd.DataFrame(frame).to_parquet(path)
    with pytest.raises(DataError, match=message):
        load(str(path))


@pytest.mark.parametrize(
    ("members", "message"),
    [
        (RATINGS_CSV | U_DATA, "has several files of ratings"),
        ({"readme.txt": b""}, "has no file of ratings"),
        (RATINGS_CSV | {"movies.csv": b"id,name\n1,x\n"}, "no column for item .*It has: id, name"),
        (
            RATINGS_CSV | {"movies.csv": b"movieId,title,genres\n1,x,y\n1,z,y\n"},
            "movies\\.csv: 1 ids in movieId are repeated: 1\\.",
        ),
        (U_DATA | {"u.item": b"1|x|y\n"}, "line 1: '1.x.y': 3 cells where the layout has 8"),
    ],
)
def test_bad_data_sets(make_zip: Make, members: dict[str, bytes], message: str) -> None:
    with pytest.raises(DataError, match=message):
        load(str(make_zip(members)))


def test_titles_as_keys_where_there_are_none(write: Write, make_zip: Make) -> None:
    with pytest.raises(DataError, match="items have no titles here"):
        load(write("r.csv", "user_id,item_id,rating\n1,2,3\n"), item_key="title")
    movies = {"movies.csv": b"movieId,title,genres\n242,Kolya,x\n"}
    with pytest.raises(DataError, match="1 items have no title: 302"):
        load(str(make_zip(RATINGS_CSV | movies)), item_key="title")
