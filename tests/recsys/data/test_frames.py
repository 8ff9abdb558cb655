"""Ratings in memory are read as those of files are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from recsys.data import load
from recsys.data.frames import load_frame
from recsys.data.interactions import Interactions
from recsys.errors import ConfigError, DataError

RATINGS = {
    "userId": [7, 7, 3, 10],
    "movieId": [21, 5, 5, 21],
    "rating": [4.0, 2.5, 5.0, 1.0],
    "timestamp": [40, 30, 20, 10],
}
ITEMS = {"movieId": [5, 21, 30], "title": ["Heat (1995)", None, "Up (2009)"], "genres": ["Crime", "", None]}


class OnlyArrow:
    """A table of a library that pyarrow does not know, with the PyCapsule interface alone (polars)."""

    def __init__(self, table: pa.Table) -> None:
        self._table = table

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        return self._table.__arrow_c_stream__(requested_schema)


FORMS = {
    "dict": dict,
    "pandas": pd.DataFrame,
    "arrow": pa.table,
    "capsule": lambda columns: OnlyArrow(pa.table(columns)),
}


def assert_same(found: Interactions, wanted: Interactions) -> None:
    for name in ("users", "items"):
        pd.testing.assert_frame_equal(getattr(found, name), getattr(wanted, name))
    for name in ("user_index", "item_index", "ratings", "timestamps"):
        np.testing.assert_array_equal(getattr(found, name), getattr(wanted, name))
    assert found.implicit == wanted.implicit


@pytest.mark.parametrize("form", FORMS)
def test_a_table_gives_what_its_file_gives(form: str, tmp_path: Path) -> None:
    pd.DataFrame(RATINGS).to_csv(tmp_path / "ratings.csv", index=False)
    assert_same(load_frame(FORMS[form](RATINGS)), load(str(tmp_path / "ratings.csv")))


def test_strings_and_categories_are_ids() -> None:
    texts = {name: list(map(str, RATINGS[name])) for name in ("userId", "movieId")}
    plain = load_frame(RATINGS | texts)
    assert plain.users["user_id"].tolist() == ["10", "3", "7"]
    frame = pd.DataFrame(RATINGS | texts)
    assert_same(load_frame(frame.astype({"userId": "category", "movieId": "category"})), plain)
    views = {name: pa.array(texts[name], pa.string_view()) for name in texts}
    assert_same(load_frame(pa.table(RATINGS | views)), plain)


def test_items_bring_titles_and_further_items() -> None:
    items = load_frame(RATINGS, pd.DataFrame(ITEMS)).items
    assert items["item_id"].tolist() == [5, 21, 30]
    assert items["title"].fillna("?").tolist() == ["Heat (1995)", "?", "Up (2009)"]
    assert items["year"].dropna().tolist() == [1995, 2009]


def test_columns_are_named_or_usual() -> None:
    renamed = {"who": RATINGS["userId"], "what": RATINGS["movieId"], "stars": RATINGS["rating"]}
    found = load_frame(renamed, user_column="who", item_column="what", rating_column="stars")
    np.testing.assert_array_equal(found.ratings, RATINGS["rating"])
    assert load_frame(RATINGS, implicit=True).implicit
    assert load_frame(RATINGS, timestamp_column="").timestamps is None


def test_the_checksum_is_that_of_the_content() -> None:
    same = load_frame(pa.table(RATINGS)).sha256
    assert load_frame(pd.DataFrame(RATINGS)).sha256 == same
    for name, values in (("rating", [4.0, 2.5, 5.0, 1.5]), ("movieId", [21, 5, 5, 22])):
        assert load_frame(RATINGS | {name: values}).sha256 != same


@pytest.mark.parametrize(
    ("ratings", "message"),
    [
        ([1, 2], r"ratings can't be read as a table \(list\)"),
        ({"userId": [1], "movieId": [2, 3]}, "can't be read as a table"),
        ({"movieId": [1]}, "ratings: no column for user"),
        (RATINGS | {"rating": [4.0, float("nan"), 5.0, 1.0]}, "row 2: rating nan: not a finite number"),
        (RATINGS | {"userId": [1.0, 2.0, 3.0, 4.0]}, r"of type double.*astype\('Int64'\)"),
        (RATINGS | {"movieId": [21, 21, 5, 21]}, "2 ratings share their user and item"),
        ({name: [] for name in RATINGS}, "ratings"),
    ],
)
def test_wrong_tables_are_refused(ratings: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        load_frame(ratings)


def test_wrong_arguments_are_refused() -> None:
    with pytest.raises(ConfigError, match="duplicates='first'"):
        load_frame(RATINGS, duplicates="first")
    with pytest.raises(ConfigError, match="leave one of them out"):
        load_frame(RATINGS, implicit=True, rating_column="rating")
