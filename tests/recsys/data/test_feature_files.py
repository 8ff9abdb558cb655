"""Features of users and items from files, beside what the data knows of them."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from recsys.data import load
from recsys.data.feature_files import read_features
from recsys.data.features import binary_features, feature_names, numeric_features
from recsys.data.items import read_items
from recsys.errors import DataError
from tests.recsys.data.layouts import LAYOUTS, Make

Write = Callable[[str, str | bytes], str]

RATINGS = "user_id,item_id,rating\nann,1,5\nbob,2,4\ncid,2,3\nann,3,1\n"
USERS = "userId,age,city,likes\ncid,30,Rome,jazz|rock\nann,25,,\neve,41,Oslo,jazz\n"


@pytest.mark.parametrize("year", ["99999999999", "-2147483649", "1e300", "inf"])
def test_a_year_that_no_bundle_holds_is_refused(tmp_path: Path, year: str) -> None:
    path = tmp_path / "items.csv"
    path.write_text(f"item_id,title,year\n1,A,1999\n2,B,{year}\n")
    for read in (read_items, lambda path: read_features(path, "items")):
        with pytest.raises(DataError, match=r"the year of an item is .*correct it"):
            read(path)


def test_numbers_categories_and_lists_are_joined_by_id(
    write: Write, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        data = load(write("r.csv", RATINGS), user_features=Path(write("u.csv", USERS)))
    assert data.users["user_id"].tolist() == ["ann", "bob", "cid"]
    assert feature_names(data.users) == ["age", "city", "likes"]
    assert data.users["age"].dtype == "float64"
    assert data.users["age"].fillna(-1).tolist() == [25, -1, 30]
    assert data.users["city"].fillna("-").tolist() == ["-", "-", "Rome"]
    # ages 25 and 30; Rome; jazz, rock
    assert binary_features(data.users).tolist() == [[1, 0, 0, 0, 0], [0] * 5, [0, 1, 1, 1, 1]]
    assert "1 of 3 users have no row, and 1 rows are of unknown users" in caplog.text


def test_a_column_without_a_name_is_ignored(write: Write, tmp_path: Path) -> None:
    """The index of a data frame, written as text."""
    path = tmp_path / "i.csv"
    pd.DataFrame({"item_id": [1, 2, 3], "price": [5, 7, 6]}).to_csv(path)
    assert path.read_text().startswith(",item_id")
    data = load(write("r.csv", RATINGS), item_features=path)
    assert list(numeric_features(data.items)) == ["price"]
    assert binary_features(data.items).tolist() == [[1, 0, 0], [0, 0, 1], [0, 1, 0]]
    path.write_text(",item_id\n0,1\n1,2\n2,3\n")
    with pytest.raises(DataError, match="has no column but item_id"):
        read_features(path, "items")


def test_parquet_has_types_of_its_own(write: Write, tmp_path: Path) -> None:
    frame = pd.DataFrame(
        {
            "item_id": [3, 1, 2],
            "tags": [["a", "b"], [], None],
            "colour": pd.Categorical(["red", "blue", "red"]),
            "new": [True, False, True],
            "price": [1.5, None, 3],
            "year": [1999, None, 2001],
        }
    )
    frame.to_parquet(tmp_path / "i.parquet")
    items = load(write("r.csv", RATINGS), item_features=tmp_path / "i.parquet").items
    assert items["tags"].fillna("-").tolist() == ["", "-", "a|b"]
    assert items["colour"].tolist() == ["blue", "red", "red"]
    assert items["new"].tolist() == ["false", "true", "true"]
    assert items["price"].fillna(-1).tolist() == [-1, 3, 1.5]
    assert items["year"].dtype == "Int64"
    frame.assign(day=pd.Timestamp("2020-01-01")).to_parquet(tmp_path / "i.parquet")
    with pytest.raises(DataError, match=r"day is of type timestamp.*: features are numbers, text, or lists"):
        load(write("r.csv", RATINGS), item_features=tmp_path / "i.parquet")


def test_titles_are_added_where_there_are_none_and_never_replaced(make_zip: Make, write: Write) -> None:
    films = Path(write("films.csv", "movieId,title,price\n242,Other,3\n302,1984,4\n7,Third,5\n"))
    known = load(str(make_zip(LAYOUTS["ratings.csv"])), item_features=films).items
    assert known["title"][1] == "Kolya (1996)"
    assert known["price"].tolist() == [5, 3, 4]
    ratings = write("r.csv", "user_id,item_id,rating\n1,242,5\n2,302,4\n")
    named = load(ratings, item_features=films)
    assert named.items["title"].tolist() == ["Other", "1984"]
    by_title = load(ratings, item_features=films, item_key="title")
    assert by_title.items["item_id"].tolist() == ["1984", "Other"]
    assert by_title.items["price"].tolist() == [4, 3]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("user_id\nann\n", "has no column but user_id"),
        ("who,age\nann,3\n", r"no column for user \(user_id or user\)"),
        ("user_id,age\nann,3\nann,4\n", "1 ids in user_id are repeated: 'ann'"),
        ("user_id,age\n,3\n", "line 2: user_id '': no id"),
        (
            "user_id,age\n7,3\n",
            "has no row for any of the 3 users: its ids are like 7, those of the users like",
        ),
        ("user_id,age\nann,3,4\n", "3 cells where the heading has 2"),
    ],
)
def test_wrong_files_are_refused(write: Write, content: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        load(write("r.csv", RATINGS), user_features=Path(write("u.csv", content)))


def test_a_name_that_is_taken_is_refused(make_zip: Make, write: Write) -> None:
    films = Path(write("films.csv", "movieId,genres\n242,Drama\n"))
    with pytest.raises(DataError, match="items have a column genres already: rename it"):
        load(str(make_zip(LAYOUTS["ratings.csv"])), item_features=films)


@pytest.mark.parametrize(
    ("layout", "file", "content"),
    [
        ("u.data", "u.user", b"186|39|F|executive|00000\n196|49|M|writer|55105\n"),
        ("ratings.dat", "users.dat", b"186::F::39::executive::00000\n196::M::49::writer::55105\n"),
    ],
)
@pytest.mark.parametrize("with_items", [True, False])
def test_what_movielens_knows_of_users(
    layout: str, file: str, content: bytes, with_items: bool, make_zip: Make
) -> None:
    members = LAYOUTS[layout] if with_items else {layout: LAYOUTS[layout][layout]}
    data = load(str(make_zip(members | {file: content})))
    assert data.users.to_dict("list") == {
        "user_id": [186, 196],
        "age": [39, 49],
        "gender": ["F", "M"],
        "occupation": ["executive", "writer"],
    }
