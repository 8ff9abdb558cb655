"""Files beside the ratings: those that are not read, and catalogues that do not fit, are said."""

from __future__ import annotations

from pathlib import Path

import pytest

from recsys.data import load
from recsys.errors import DataError
from tests.recsys.data.layouts import Make

RATINGS = b"userId,movieId,rating\n1,7,5\n2,8,4\n"
TITLES = b"movieId,title,genres\n7,Seven (1995),A\n8,,B\n"


def test_ratings_beside_those_of_a_layout_are_named(
    make_folder: Make, caplog: pytest.LogCaptureFixture
) -> None:
    tags = b"userId,movieId,tag\n1,7,good\n"
    files = {"ratings.csv": RATINGS, "movies.csv": TITLES, "tags.csv": tags, "a.jsonl": b"no JSON"}
    folder = make_folder(files)
    load(str(folder))
    assert not caplog.messages
    (folder / "more").mkdir()
    (folder / "more" / "2021.csv").write_bytes(RATINGS)
    load(str(folder))
    (message,) = caplog.messages
    assert "from ratings.csv, movies.csv. Not read, though they have ratings, too: more/2021.csv." in message


@pytest.mark.parametrize("listed", [b"007,Seven,A\n008,Eight,B\n", b"70,Seven,A\n"])
def test_titles_of_other_items_are_refused(listed: bytes, make_folder: Make) -> None:
    folder = make_folder({"ratings.csv": RATINGS, "movies.csv": b"movieId,title,genres\n" + listed})
    with pytest.raises(DataError, match=r"none of the 2 rated ones: its ids are like .*'?7'?\. Write both"):
        load(str(folder))


def test_items_without_titles_are_counted(make_folder: Make, caplog: pytest.LogCaptureFixture) -> None:
    folder = make_folder({"ratings.csv": RATINGS, "movies.csv": TITLES.replace(b"8,,B\n", b"")})
    load(str(folder))
    (message,) = caplog.messages
    assert "1 of 2 rated items are not in the file of items, and have no titles: 8" in message


def test_an_empty_title_is_none(make_folder: Make) -> None:
    items = load(str(make_folder({"ratings.csv": RATINGS, "movies.csv": TITLES}))).items
    assert items["title"].isna().tolist() == [False, True]


def test_lists_of_json_lines_are_lists(tmp_path: Path) -> None:
    (tmp_path / "r.csv").write_bytes(RATINGS)
    lines = '{"item_id": 7, "genres": ["A", "B"], "sizes": [1.50, 2]}\n{"item_id": 8, "genres": []}\n'
    (tmp_path / "i.jsonl").write_text(lines)
    items = load(str(tmp_path / "r.csv"), item_features=tmp_path / "i.jsonl").items
    assert items["genres"].tolist()[0] == "A|B"
    assert items["sizes"].tolist()[0] == "1.50|2"


def test_a_word_among_numbers_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    ids = range(6)
    ratings = "".join(f"1,{n},{n}\n" for n in ids)
    (tmp_path / "r.csv").write_text(f"user_id,item_id,rating\n{ratings}")
    prices = "".join(f"{n},{n}.5,{'n/a' if n == 3 else n},{'ab'[n % 2]}\n" for n in ids)
    (tmp_path / "i.csv").write_text(f"item_id,price,pages,kind\n{prices}")
    load(str(tmp_path / "r.csv"), item_features=tmp_path / "i.csv")
    (message,) = caplog.messages
    assert "pages: 1 cells are no numbers, such as 'n/a'" in message
