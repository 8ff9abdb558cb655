"""Lists as Python objects: iteration, tables, notebooks; and ratings in every form."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fixture_bundles import FIXTURES, edit_manifest

from serve.errors import RequestError, UnknownIdError
from serve.runtime.recommender import Recommender


@pytest.fixture(scope="module")
def rated() -> Recommender:
    """Integer ids, titles "Movie 1, The (1951)", predicted ratings."""
    return Recommender.load(FIXTURES / "dot-bias", "cpu")


def test_a_list_is_its_items_best_first(rated: Recommender) -> None:
    top = rated.recommend(10, top_k=4)
    items = list(top)
    assert len(top) == len(items) == 4
    assert [item.item_id for item in items] == top.item_ids.tolist()
    assert [item.title for item in items] == [rated.items[i].title for i in top.item_indices.tolist()]
    assert [item.score for item in items] == top.scores.tolist()
    assert [item.rating for item in items] == top.ratings.tolist()
    assert all(item.rating is None for item in rated.similar_items(1001, top_k=3))


def test_a_batch_is_its_lists(rated: Recommender) -> None:
    many = rated.recommend([10, 20, 999], top_k=3)
    assert len(many) == 3
    for user, one in zip((10, 20, 999), many, strict=True):
        assert list(one) == list(rated.recommend(user, top_k=3))
    assert [one.known for one in many] == [True, True, False]


def test_padding_is_left_out(rated: Recommender) -> None:
    some = rated.items.ids.ids(np.arange(1, 49)).tolist()
    short = rated.recommend([10, 20], top_k=10, exclude_item_ids=[some, []], exclude_seen=False)
    assert [len(one) for one in short] == [2, 10]
    assert short.to_arrow()["row"].to_pylist() == 2 * [0] + 10 * [1]
    assert short.to_arrow()["rank"].to_pylist() == [1, 2, *range(1, 11)]
    assert short.to_arrow()["item_id"].null_count == 0


def test_a_table_has_a_row_for_each_item(rated: Recommender) -> None:
    top = rated.recommend(10, top_k=4)
    table = top.to_arrow()
    assert table.column_names == ["rank", "item_id", "title", "score", "rating"]
    rows = [tuple(row.values())[1:] for row in table.to_pylist()]
    assert rows == [tuple(item) for item in top]
    assert "rating" not in rated.similar_items(1001).to_arrow().column_names


def test_string_ids_stay_strings() -> None:
    top = Recommender.load(FIXTURES / "dot-bias-string-ids", "cpu").recommend("user-010", top_k=3)
    assert top.to_arrow()["item_id"].to_pylist() == top.item_ids.tolist() == [item.item_id for item in top]


def test_a_notebook_shows_titles_and_no_html_of_theirs(tmp_path: Path, rated: Recommender) -> None:
    bundle = Path(shutil.copytree(FIXTURES / "dot-bias", tmp_path / "bundle"))
    items = pq.read_table(bundle / "items.parquet")
    hostile = pa.array(["<script>alert(1)</script> & Co"] * len(items), pa.string())
    items = items.set_column(items.column_names.index("title"), "title", hostile)
    pq.write_table(items, bundle / "items.parquet")
    edit_manifest(bundle)
    page = Recommender.load(bundle, "cpu").recommend(10, top_k=2)._repr_html_()
    assert "<script>" not in page
    assert page.count("&lt;script&gt;alert(1)&lt;/script&gt; &amp; Co") == 2
    many = rated.recommend([10 * i for i in range(1, 9)], top_k=2)._repr_html_()
    assert many.count("<table>") == 5
    assert "and 3 more" in many
    assert len(re.findall(r"<td>The Movie \d+ \(", many)) == 10


def test_a_new_user_rates_titles_or_ids(rated: Recommender) -> None:
    expected = list(rated.fold_in([1001, 1006], [5.0, 2.0], top_k=5))
    for given in (
        {1001: 5, 1006: 2},
        {"Movie 1, The (1951)": 5, "movie 6, the (1956)": 2},
        {"1001": 5, np.int64(1006): 2.0},
    ):
        assert list(rated.fold_in(given, top_k=5)) == expected, given
    many = rated.fold_in([{1001: 5, 1006: 2}, {}], top_k=5)
    some, none = many
    assert some.item_ids.tolist() == [item.item_id for item in expected]
    assert list(rated.fold_in({}, top_k=5)) == list(none)


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({"Movie 1, Teh (1951)": 5}, RequestError, "nearest titles: 'Movie 1, The"),
        ({1001: 5, "Movie 1, The (1951)": 4}, RequestError, "item 1001 is rated more than once"),
        ({1001: 9}, RequestError, "ratings must lie in 0.5 to 5"),
        ({7: 5}, UnknownIdError, "item_id 7 is not in this bundle"),
        ([1001], RequestError, "ratings are missing"),
        ([{1001: 5}, [1006]], RequestError, "ratings are missing"),
        (1001, RequestError, "ratings are missing"),
    ],
)
def test_wrong_ratings_are_refused(
    rated: Recommender, given: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        rated.fold_in(given)


def test_columns_of_arrow_are_lists(rated: Recommender) -> None:
    users = pa.chunked_array([[10], [20, 30]])
    assert rated.recommend(users).item_ids.tolist() == rated.recommend([10, 20, 30]).item_ids.tolist()
    folded = rated.fold_in(pa.array([1001, 1006]), pa.chunked_array([[5.0, 2.0]]))
    assert list(folded) == list(rated.fold_in([1001, 1006], [5.0, 2.0]))
