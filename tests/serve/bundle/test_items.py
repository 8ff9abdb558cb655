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


def test_a_title_of_several_items_asks_for_the_id(items: Catalogue) -> None:
    with pytest.raises(RequestError, match=r"2 items are titled 'Emperor .* 100, 200"):
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
    texts = ("One", " One", "One ", "Two", " Two ", " a", "a", "  b")
    assert [items.resolve(text) for text in texts] == [1, 3, 1, 2, 2, 2, 4, 3]
    assert items.search(" a")[0] == 2
    with pytest.raises(RequestError, match="no item has the title or id 'd'"):
        items.resolve(" d ")


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
