"""What is refused: with the count, the first offending rows, and the way out."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from recsys.data import Columns, load
from recsys.errors import DataError
from tests.recsys.data.layouts import RATINGS_CSV, U_DATA, Make

Write = Callable[[str, str | bytes], str]

HEADER = "user_id,item_id,rating,timestamp\n"


@pytest.mark.parametrize(
    ("content", "parts"),
    [
        ("", ["is empty"]),
        ("\n\n", ["is empty"]),
        (HEADER, ["has no ratings"]),
        (
            "who,item_id,stars\n1,2,3\n",
            [
                "no column for user (user_id or userId), rating (rating)",
                "It has: who, item_id, stars",
                "--user-column",
            ],
        ),
        ("user_id,item_id,rating,rating\n1,2,3,3\n", ["2 columns are called 'rating'"]),
        (
            HEADER + "1,1,good,1\n1,2,3,1\n2,2,,1\n",
            ["2 ratings are no finite number", "line 2: 1,1,good,1", "line 4: 2,2,,1", "Correct or remove"],
        ),
        (
            HEADER + "1,1,4,1\n\n1,2,NaN,1\n",
            ["1 ratings are missing, NaN or infinite", "line 4: 1,2,NaN,1", "Remove"],
        ),
        (
            HEADER + "1,1,inf,1\n1,2,-inf,1\n",
            ["2 ratings are missing, NaN or infinite", "line 3: 1,2,-inf,1"],
        ),
        (HEADER + "1,1,1e300,1\n", ["1 ratings are missing, NaN or infinite"]),
        (HEADER + ",1,4,1\n3,1,4,1\n", ["1 user ids are missing", "line 2: ,1,4,1", "Remove these rows"]),
        (HEADER + "a,1,4,1\n,1,4,1\n", ["1 user ids are missing", "line 3: ,1,4,1"]),
        (HEADER + "1,,4,1\n1,,4,2\n", ["2 item ids are missing", "line 2: 1,,4,1"]),
        (
            HEADER + "1,1,4,1\n1,2,3\n1,3,3,3,3\n",
            ["2 rows don't have 4 fields", "line 3: 1,2,3", "line 4: 1,3,3,3,3"],
        ),
        (
            HEADER + "1,1,4,soon\n2,1,4,1\n",
            ["1 timestamps are no time", "line 2: 1,1,4,soon", "--timestamp-column ''"],
        ),
        (HEADER + "1,1,4,\n2,1,4,1\n", ["1 timestamps are missing", "line 2: 1,1,4,"]),
        (
            HEADER + "1,1,4,7\n2,1,4,2020-01-01\n",
            ["1 timestamps are no dates, where others are", "line 2: 1,1,4,7"],
        ),
        (HEADER + "1,1,4,1e40\n", ["1 timestamps are no time"]),
        (
            HEADER + "1,1,4,1\n2,2,3,1\n1,1,5,2\n",
            [
                "2 ratings share their user and item",
                "line 2: 1,1,4,1",
                "line 4: 1,1,5,2",
                "--duplicates last",
            ],
        ),
        (b"user_id,item_id,rating\n1,caf\xe9,4\n", ["UTF-8"]),
    ],
)
def test_bad_text(write: Write, content: str | bytes, parts: list[str]) -> None:
    with pytest.raises(DataError) as caught:
        load(write("ratings.csv", content))
    for part in ["ratings.csv", *parts]:
        assert part in str(caught.value)


def test_only_the_first_offending_rows_are_shown_but_all_are_counted(write: Write) -> None:
    rows = "".join(f"{n},1,{'?' if n % 2 else 3}\n" for n in range(3_000))
    with pytest.raises(DataError, match=r"(?s)1,500 ratings.*line 3: 1,1,\?.*… and 1,495 more") as caught:
        load(write("r.csv", "user_id,item_id,rating\n" + rows))
    assert str(caught.value).count("line ") == 5


def test_rows_of_a_zip_are_quoted_too(make_zip: Make) -> None:
    rows = b"1\t242\t3\t1\n1\t302\tx\t1\n"
    with pytest.raises(DataError, match="line 2: 1\t302\tx\t1"):
        load(str(make_zip(U_DATA | {"u.data": rows})))
    with pytest.raises(DataError, match="line 3: 1\t242\t3\t1"):
        load(str(make_zip(U_DATA | {"u.data": rows.replace(b"x", b"4") + b"1\t242\t3\t1\n"})))


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        ({"user_id": [1, None], "item_id": [1, 2], "rating": [1.0, 2.0]}, "user ids are of type double"),
        (
            {"user_id": [1, 1], "item_id": ["a", None], "rating": [1.0, 2.0]},
            "1 item ids are missing.*\n.*row 2: user",
        ),
        ({"user_id": [1, 1], "item_id": [1, 2], "rating": [1.0, None]}, "1 ratings are missing"),
        (
            {"user_id": [1, 1], "item_id": [1, 2], "rating": ["1", "good"]},
            "rating column is of type (large_)?string",
        ),
        ({"user_id": [1, 2**64 - 1], "item_id": [1, 2], "rating": [1.0, 1.0]}, "does not fit into 64 bits"),
        (
            {"user_id": [1], "item_id": [1], "stars": [1.0]},
            "no column for rating.*It has: user_id, item_id, stars",
        ),
    ],
)
def test_bad_parquet(tmp_path: Path, frame: dict[str, list[object]], message: str) -> None:
    path = tmp_path / "r.parquet"
    pd.DataFrame(frame).to_parquet(path)
    with pytest.raises(DataError, match=message):
        load(str(path))


def test_a_truncated_parquet_file(tmp_path: Path) -> None:
    path = tmp_path / "r.parquet"
    pd.DataFrame({"user_id": [1], "item_id": [1], "rating": [1.0]}).to_parquet(path)
    whole = path.read_bytes()
    for length in (0, 3, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(DataError, match="can't be read as Parquet"):
            load(str(path))


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"ratings.csv": RATINGS_CSV["ratings.csv"]}, r"ratings, but no movies\.csv or movie\.csv"),
        (RATINGS_CSV | U_DATA, "has ratings twice"),
        ({"readme.txt": b""}, "neither MovieLens' ratings .* nor a RecBole"),
        (RATINGS_CSV | {"movies.csv": b"movieId,name\n1,x\n"}, "'title'"),
        (
            RATINGS_CSV | {"movies.csv": b"movieId,title,genres\n1,x,y\n1,z,y\n"},
            "movies\\.csv: 1 item ids are missing or repeated: 1\\.",
        ),
        (U_DATA | {"u.item": b"1|x|y\n"}, "1 rows don't have 8 fields: '1|x|y'"),
        (U_DATA | {"u.item": b"one|x|||u|0|0|0\n"}, "1 movie ids are no number, the first is 'one'"),
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


def test_an_unknown_ending(write: Write) -> None:
    with pytest.raises(DataError, match=re.escape("one of .csv, .tsv, .inter, .parquet, .pq, .zip")):
        load(write("ratings.xlsx", "x"))


def test_one_column_for_two_purposes(write: Write) -> None:
    with pytest.raises(DataError, match="one column for two purposes"):
        load(write("r.csv", "user_id,item_id,rating\n1,2,3\n"), columns=Columns(item="user_id"))
