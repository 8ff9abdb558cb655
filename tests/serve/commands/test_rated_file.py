"""A person's ratings from a file: every row is folded in, listed as left out, or refused."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fixture_bundles import FIXTURES

from serve.bundle.items import Catalogue
from serve.commands.rated_file import RatedFile, read_rated
from serve.errors import InputError


@pytest.fixture(scope="module")
def items() -> Catalogue:
    """Items 1001 to 1050, titled "Movie 1, The (1951)" to "Movie 50, The (2000)"."""
    return Catalogue(FIXTURES / "dot-bias" / "items.parquet", 50)


def read(tmp_path: Path, content: str, items: Catalogue) -> RatedFile:
    path = tmp_path / "ratings.csv"
    path.write_text(content)
    return read_rated(path, items, (0.5, 5.0))


@pytest.mark.parametrize(
    "content",
    [
        'Date,Name,Year,Letterboxd URI,Rating\n2020-01-01,"Movie 3, The",1953,x,4.5\n'
        ',"Movie 9, The",1959,x,1\n2020-01-01,Elsewhere,2020,x,5\n',
        'Const,Your Rating,Date Rated,Title,IMDb Rating,Year\ntt1,9,2020-01-01,"Movie 3, The",8.1,1953\n'
        'tt2,2,,"Movie 9, The (1959)",8,1959\ntt3,5,,Elsewhere,8,2020\n',
        "item_id,rating\n1003,4.5\n1009,1\n10030,5\n",
        "movieId,title,rating\n1003,anything,4.5\n1009,anything,1\n1_003,anything,5\n",
    ],
)
def test_titles_and_ids(content: str, tmp_path: Path, items: Catalogue) -> None:
    rated = read(tmp_path, content, items)
    assert rated[:2] == ([3, 9], [4.5, 1.0])
    assert [row.line for row in rated.left_out] == [4]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            "item_id,rating\n1003,good\n1009\n",
            r"(?s)2 rows can't be read:.*line 3: .*1 cells.*line 2: .*'good'",
        ),
        ("who,rating\n1003,4\n", "no column of items"),
        ("item_id,stars_given\n1003,4\n", "no column of rating"),
    ],
)
def test_what_can_not_be_read(content: str, message: str, tmp_path: Path, items: Catalogue) -> None:
    with pytest.raises(InputError, match=message):
        read(tmp_path, content, items)


def test_a_year_that_is_a_float_is_a_year_and_no_title_is_no_item(tmp_path: Path, items: Catalogue) -> None:
    rated = read(tmp_path, 'title,year,rating\n"Movie 3, The",1953.0,4\n,,3\n', items)
    assert rated[:2] == ([3], [4.0])
    assert [row.line for row in rated.left_out] == [3]


def test_an_id_that_is_a_float_is_named_so(tmp_path: Path, items: Catalogue) -> None:
    (left_out,) = read(tmp_path, "item_id,rating\n1003.0,4\n", items).left_out
    assert "not an integer but a float" in left_out.reason


def test_integers_are_no_ids_where_ids_are_strings(tmp_path: Path) -> None:
    strings = Catalogue(FIXTURES / "dot-bias-string-ids" / "items.parquet", 50)
    pq.write_table(pa.table({"item_id": [1003], "rating": [4.0]}), tmp_path / "r.parquet")
    with pytest.raises(InputError, match="ids are strings, whose leading zeros an integer has lost"):
        read_rated(tmp_path / "r.parquet", strings, (0.5, 5.0))


def test_ratings_of_imdb_are_brought_to_the_scale_of_the_bundle(tmp_path, items) -> None:
    found = read(
        tmp_path,
        "Const,Your Rating,Title,Year\n"
        "t1,1,The Movie 1,1951\nt2,7,The Movie 2,1952\nt3,10,The Movie 3,1953\n",
        items,
    )
    assert found.item_indices == [1, 2, 3]
    assert found.ratings == pytest.approx([0.5, 3.5, 5.0])


def test_a_title_is_found_without_its_accents(tmp_path, items) -> None:
    assert read(tmp_path, "title,year,rating\nThe Mövié 13,1963,4\n", items).item_indices == [13]
    (left_out,) = read(tmp_path, "title,year,rating\nThe Mövié 99,1963,4\n", items).left_out
    assert "The Mövié 99" in str(left_out)
