"""What the browser keeps, the first items to rate, and files of ratings, without a browser."""

from __future__ import annotations

import base64

import numpy as np
import pytest
from fixture_bundles import FIXTURES

from demos.gradio_app.mine import LARGEST, N_UNDO, Mine
from demos.gradio_app.upload import LARGEST_FILE, read_upload
from demos.gradio_app.varied import varied
from serve import Recommender
from serve.errors import InputError, RequestError


@pytest.fixture(scope="module")
def recommender() -> Recommender:
    return Recommender.load(FIXTURES / "dot-bias", "cpu")


def test_every_deed_is_undone() -> None:
    mine = [Mine()]
    for deed in (
        lambda one: one.rate("a", 5.0),
        lambda one: one.rate("b", 2.0),
        lambda one: one.rate("a", 1.0),
        lambda one: one.hide("c"),
        lambda one: one.rate("b", None),
        lambda one: one.hide("a"),
    ):
        mine.append(deed(mine[-1]))
        assert Mine.of(mine[-1].kept()) == mine[-1]
    assert mine[-1].ratings == {"a": 1.0}
    assert mine[-1].hidden == ["c", "a"]
    now = mine[-1]
    for before in mine[-2::-1]:
        now = now.undone()
        assert (now.ratings, now.hidden) == (before.ratings, before.hidden)
    assert now.undone() == now == Mine()


def test_what_is_kept_is_bounded() -> None:
    mine = Mine().add({str(n): 1.0 for n in range(LARGEST + 5)})
    for n in range(N_UNDO + 5):
        mine = mine.rate(f"x{n}", 2.0)
    assert len(mine.ratings) == LARGEST
    assert list(mine.ratings)[-1] == f"x{N_UNDO + 4}"
    assert len(mine.undo) == N_UNDO


@pytest.mark.parametrize(
    "sent",
    [
        None,
        7,
        [],
        {"ratings": [1]},
        {"ratings": {"1001": "5"}},
        {"ratings": {"1001": 5}, "hidden": [{}]},
        {"hidden": ["1"] * (LARGEST + 1)},
    ],
)
def test_another_record_of_a_browser_counts_for_nothing(sent) -> None:
    assert Mine.of(sent) == Mine()


def test_only_items_of_the_bundle_and_ratings_on_the_scale_count(recommender) -> None:
    mine = Mine({"1013": 5.0, "77": 3.0, "1002": 99.0, "x": 1.0, "1003": float("nan")}, ["1004", "nobody"])
    assert mine.resolved(recommender.items, recommender.manifest.data.ratings_range) == ({13: 5.0}, [4])


def test_the_first_items_are_well_known_and_of_every_genre() -> None:
    counts = np.array([0, 9, 8, 7, 6, 5, 4])
    genres = {"A": np.array([1, 2, 3]), "B": np.array([1, 4]), "C": np.array([6])}
    assert varied(counts, genres, 4) == [1, 4, 6, 2]
    assert varied(counts, genres, 4, without=[1, 4]) == [2, 6, 3]
    assert varied(counts, genres, 99) == [1, 4, 6, 2, 3]
    assert varied(counts, {}, 3, without=[2]) == [1, 3, 4]
    assert varied(np.zeros(1, np.int64), {}, 3) == []


def sent(text: str | bytes) -> str:
    return base64.b64encode(text.encode() if isinstance(text, str) else text).decode()


@pytest.mark.parametrize(
    ("name", "text", "ratings"),
    [
        ("r.csv", "userId,movieId,rating,timestamp\n1,1013,4.0,9\n1,1002,2,9\n", {"1013": 4, "1002": 2}),
        ("ratings.csv", "Date,Name,Year,URI,Rating\nx,The Movie 13,1963,u,3\n", {"1013": 3}),
        ("imdb.csv", "Const,Your Rating,Title,Year\ntt1,1,The Movie 13,1963\n", {"1013": "low"}),
        ("../../own.JSONL", '{"item_id": 1013, "rating": 5}\n', {"1013": 5}),
        ("twice.csv", "item_id,rating\n1013,1\n1013,5\n", {"1013": 5}),
    ],
)  # fmt: skip
def test_files_of_ratings_are_read(recommender, name, text, ratings) -> None:
    low = recommender.manifest.data.ratings_range[0]
    found = read_upload(name, sent(text), recommender)
    assert found.ratings == {key: low if value == "low" else value for key, value in ratings.items()}
    assert (found.n_left_out, found.left_out) == (0, [])


def test_rows_that_do_not_match_are_told(recommender) -> None:
    rows = "".join(f"{n},3\n" for n in range(7, 27))
    found = read_upload("x.csv", sent(f"item_id,rating\n1013,4\n1002,99\n{rows}"), recommender)
    assert found.ratings == {"1013": 4}
    assert found.n_left_out == 21
    assert found.left_out[0] == "line 4: item_id '7': not in the bundle"


@pytest.mark.parametrize(
    ("name", "content", "error", "said"),
    [
        (None, "", RequestError, "a name and a content"),
        ("a.csv", {"path": "/etc/passwd"}, RequestError, "a name and a content"),
        ("a.csv", "%%%", RequestError, "not base64"),
        ("a.csv", sent(b"x" * (LARGEST_FILE + 1)), RequestError, "bytes"),
        ("a.csv", sent("item_id,rating\n7,3\n"), InputError, "rates no item of this page.*'7'"),
        ("a.csv", sent("title;stars\nx;1\n"), InputError, "the file"),
        ("a.csv", sent(b"PK\x03\x04\x00\x00"), InputError, "the file.*unpack it"),
        ("a.parquet", sent(b"PAR1junkPAR1"), InputError, "the file"),
        ("a.csv", sent("item_id,rating\n1013,many\n"), InputError, "the file, line 2"),
    ],
)
def test_other_files_are_refused_in_a_line_that_names_no_path(
    recommender, name, content, error, said
) -> None:
    with pytest.raises(error, match=said) as raised:
        read_upload(name, content, recommender)
    assert "recsys-ratings-" not in str(raised.value)
