"""Finding an item by what people type."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from serve.bundle.ids import write_items
from serve.bundle.items import Catalogue
from serve.bundle.parquet import write_columns
from serve.errors import BundleError, RequestError

TITLES = [
    "Toy Story (1995)",
    "Heat (1995)",
    "Matrix, The (1999)",
    "Emperor (2012)",
    "Emperor (2012)",
    "Amélie (2001)",
    "1984",
    None,
    "toy story (1995)",
    "E=mc²",
]
IDS = [1, 6, 2571, 100, 200, 4973, 7, 8, 9, 10]


@pytest.fixture
def items(tmp_path: Path) -> Catalogue:
    genres = ["Animation|Children", None, *[""] * 8]
    write_items(tmp_path / "items.parquet", IDS, titles=TITLES, genres=genres, years=[1995, *[None] * 9])
    return Catalogue(tmp_path / "items.parquet", 10)


def test_what_is_known_of_an_item(items: Catalogue) -> None:
    assert items[1] == (1, 1, "Toy Story (1995)", ("Animation", "Children"), 1995)
    assert items[2] == (2, 6, "Heat (1995)", (), None)
    assert items[8].title is None
    assert items.label(8) == "8"
    assert len(items) == 10
    for wrong in (0, 11, -1):
        with pytest.raises(RequestError, match=f"got {wrong}"):
            items[wrong]


@pytest.mark.parametrize(
    ("text", "index"),
    [
        ("Toy Story (1995)", 1),
        ("toy story (1995)", 9),
        ("HEAT (1995)", 2),
        ("AMÉLIE (2001)", 6),
        ("2571", 3),
        ("1984", 7),
        ("7", 7),
        ("E=mc²", 10),
    ],
)
def test_a_title_or_an_id_is_resolved(items: Catalogue, text: str, index: int) -> None:
    assert items.resolve(text) == index


@pytest.mark.parametrize(
    ("typed", "nearest"),
    [
        ("Toy Storey (1995)", "Toy Story (1995)"),
        ("Matrix (1999)", "Matrix, The (1999)"),
        ("amelie", "Amélie (2001)"),
    ],
)
def test_a_mistyped_title_gets_the_nearest_named(items: Catalogue, typed: str, nearest: str) -> None:
    with pytest.raises(RequestError, match="no item has the title or id") as caught:
        items.resolve(typed)
    assert repr(nearest) in str(caught.value)
    assert items.label(items.nearest(typed)[0]).casefold() == nearest.casefold()


def test_no_text_names_no_item(tmp_path: Path) -> None:
    write_items(tmp_path / "items.parquet", [1, 2], titles=["", "Heat"], genres=None, years=None)
    untitled = Catalogue(tmp_path / "items.parquet", 2)
    for text in ("", " ", "title:"):
        with pytest.raises(RequestError, match="no item has the title"):
            untitled.resolve(text)


def test_a_title_of_several_items_asks_for_the_id(items: Catalogue) -> None:
    with pytest.raises(RequestError, match=r"2 items .* \(id 100\), .* \(id 200\).* id:100"):
        items.resolve("Emperor (2012)")


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("story", [1, 9]),
        ("1995 toy", [1, 9]),
        ("the matrix", [3]),
        ("HEAT", [2]),
        ("200", [5, 6]),
        ("1984", [7]),
        ("zzz", []),
        ("", []),
        ("   ", []),
        ("(", [2, 6, 4, 5, 1, 9, 3]),
    ],
)
def test_search_by_words(items: Catalogue, query: str, found: list[int]) -> None:
    assert items.search(query) == found
    assert items.search(query, limit=2) == found[:2]


def test_spaces_around_a_title_or_an_id_are_tried_first(tmp_path: Path) -> None:
    write_items(tmp_path / "items.parquet", ["a", " a", "b", "c"], titles=["One", "Two", " One", "a"])
    items = Catalogue(tmp_path / "items.parquet", 4)
    texts = ("One", " One", "Two", " Two ", "id: a", "id:a", "title:a", "  b")
    assert [items.resolve(text) for text in texts] == [1, 3, 2, 2, 2, 1, 4, 3]
    assert items.search(" a")[:2] == [2, 4]
    with pytest.raises(RequestError, match="no item has the title or id 'd'"):
        items.resolve(" d ")


@pytest.mark.parametrize(
    ("text", "title"),
    [
        ("The Matrix (1999)", "Matrix, The (1999)"),
        ("the matrix", "Matrix, The (1999)"),
        ("MATRIX, THE", "Matrix, The (1999)"),
        ("The  City of Lost Children", "City of Lost Children, The (Cité des enfants perdus, La) (1995)"),
        (
            "the city of lost children (1995)",
            "City of Lost Children, The (Cité des enfants perdus, La) (1995)",
        ),
        ("L'Avventura", "Avventura, L' (1960)"),
        ("Les Misérables", "Misérables, Les (1998)"),
        ("Les Mise\u0301rables (1998)", "Misérables, Les (1998)"),
        ("Alien, The", "The Alien"),
        ("The Alien (1979)", "The Alien"),
        ("Sabrina (1954)", "Sabrina (1954)"),
        ("title:300", "300 (2006)"),
        ("Title: the matrix", "Matrix, The (1999)"),
        ("id:300", "Quiz Show (1994)"),
        ("ID: 8", "title:8"),
        ("title:title:8", "title:8"),
        ("id:x", "id:x"),
        ("die hard", "Die Hard (1988)"),
    ],
)
def test_articles_and_years_may_be_typed_otherwise(famous: Catalogue, text: str, title: str) -> None:
    assert famous.label(famous.resolve(text)) == title
    assert famous.label(famous.search(text)[0]) == title


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "300",
            r"'300' is the id of 'Quiz Show \(1994\)' and the title of '300 \(2006\)' \(id 5\): "
            r"name one as id:300 or title:300",
        ),
        ("sabrina", r"2 items .*'Sabrina \(1954\)' \(id 6\), 'Sabrina \(1995\)' \(id 7\)"),
        ("seven", r"'Seven \(1979\)' \(id 10\), 'Seven \(a.k.a. Se7en\) \(1995\)' \(id 11\)"),
        ("The Matrix (2003)", "no item has"),
        ("id:Heat", "no item has the title or id 'id:Heat'"),
        ("title:5", "no item has the title or id"),
    ],
)
def test_a_name_that_means_two_things_is_refused(famous: Catalogue, text: str, message: str) -> None:
    with pytest.raises(RequestError, match=message):
        famous.resolve(text)


@pytest.fixture
def famous(tmp_path: Path) -> Catalogue:
    titles = {
        1: "Matrix, The (1999)",
        2: "City of Lost Children, The (Cité des enfants perdus, La) (1995)",
        3: "Avventura, L' (1960)",
        4: "Misérables, Les (1998)",
        5: "300 (2006)",
        6: "Sabrina (1954)",
        7: "Sabrina (1995)",
        8: "title:8",
        9: "The Alien",
        10: "Seven (1979)",
        11: "Seven (a.k.a. Se7en) (1995)",
        12: "id:x",
        13: "Die Hard (1988)",
        300: "Quiz Show (1994)",
    }
    years = [1979 if title == "The Alien" else None for title in titles.values()]
    write_items(tmp_path / "items.parquet", list(titles), titles=list(titles.values()), years=years)
    return Catalogue(tmp_path / "items.parquet", len(titles))


def test_without_titles_ids_do(tmp_path: Path) -> None:
    write_items(tmp_path / "items.parquet", ["a", "b"])
    items = Catalogue(tmp_path / "items.parquet", 2)
    assert not items.has_titles
    assert items.resolve("b") == 2
    assert items.search("b") == [2]
    assert items.label(1) == "a"
    with pytest.raises(RequestError, match="no item has the title or id 'c'"):
        items.resolve("c")


@pytest.mark.parametrize(
    "hostile", ["", " ", "\0", "'; DROP TABLE", "%s{}", "x" * 10_000, "(" * 100, "\ud800"]
)
def test_hostile_text_finds_nothing_and_breaks_nothing(items: Catalogue, hostile: str) -> None:
    items.search(hostile)
    items.nearest(hostile)
    with pytest.raises(RequestError):
        items.resolve(hostile)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"item_id": pa.array([1])}, "has 1 rows"),
        ({"item_id": pa.array([1, None])}, "1 of item_id are missing"),
        ({"item_id": pa.array([1, 2]), "title": pa.array([1, 2])}, "title is int64, not string"),
        ({"item_id": pa.array([1, 2]), "year": pa.array(["a", "b"])}, "year is string"),
    ],
)
def test_a_damaged_table(tmp_path: Path, columns: dict[str, Any], message: str) -> None:
    write_columns(tmp_path / "items.parquet", columns)
    with pytest.raises(BundleError, match=message):
        Catalogue(tmp_path / "items.parquet", 2)
