"""The page's answers against slow, obvious ones."""

from __future__ import annotations

import re
import shutil

import numpy as np
import pytest
from fixture_bundles import BUNDLES, FIXTURES, edit_manifest

from demos.gradio_app.cards import card
from demos.gradio_app.columns import items_by_genre, raters
from demos.gradio_app.showcase import Showcase
from demos.gradio_app.tabs.newcomer import rating_choices
from serve import Recommender
from serve.bundle.ids import write_users
from serve.errors import RequestError


@pytest.fixture(scope="module", params=BUNDLES)
def showcase(request: pytest.FixtureRequest) -> Showcase:
    return Showcase(Recommender.load(FIXTURES / request.param, "cpu"))


def test_raters_are_those_whose_history_has_the_item(showcase) -> None:
    seen = showcase.recommender.seen
    found = raters(showcase.recommender.bundle, [7, 13, 50, 13])
    assert set(found) == {7, 13, 50}
    for index, users in found.items():
        assert users.tolist() == [user for user in range(1, 31) if index in seen.of_user(user)]
    assert raters(showcase.recommender.bundle, []) == {}


def test_genres_are_those_of_the_items(showcase) -> None:
    items = showcase.recommender.items
    found = items_by_genre(showcase.recommender.bundle)
    assert list(found) == ["Action", "Comedy", "Drama", "Romance", "Sci-Fi", "Thriller"]
    for name, indices in found.items():
        assert indices.tolist() == [index for index in range(1, 51) if name in items[index].genres]


def test_a_genre_lists_all_its_items_by_score(showcase) -> None:
    recommender = showcase.recommender
    user_id = str(recommender.users.one_id(3))
    for genre, members in showcase.genres.items():
        every = recommender.recommend(recommender.users.one_id(3), 50)
        order = [index for index in every.item_indices.tolist() if index in members]
        rows = showcase.recommend(user_id, 50, genre=genre).rows
        assert [row.item.item_index for row in rows] == order
    with pytest.raises(RequestError, match="no item has the genre 'Opera'"):
        showcase.recommend(user_id, genre="Opera")


@pytest.mark.parametrize(
    ("bundle", "ids", "queries"),
    [
        (
            "dot-bias",
            [7, 12, 120, 1200, 31],
            {"12": ["12", "120", "1200"], "2": ["12", "120", "1200"], "%": []},
        ),
        (
            "dot-bias-string-ids",
            ["amy", "bob", "amy2", "xamy", "%_"],
            {"amy": ["amy", "amy2", "xamy"], "%": ["%_"], "nobody": []},
        ),
    ],
)
def test_users_are_found_by_part_of_their_id(tmp_path, bundle, ids, queries) -> None:
    copy = shutil.copytree(FIXTURES / bundle, tmp_path / "bundle")
    (copy / "users.parquet").unlink()
    more = list(range(90_001, 90_026)) if bundle == "dot-bias" else [f"user {n}" for n in range(25)]
    write_users(copy / "users.parquet", [*ids, *more])
    edit_manifest(copy)
    showcase = Showcase(Recommender.load(copy, "cpu"))
    assert showcase.find_users("", 5) == [str(value) for value in ids]
    for query, wanted in queries.items():
        assert showcase.find_users(query, 3) == wanted[:3]
        assert showcase.find_users(query, 1) == wanted[:1]


@pytest.mark.parametrize(
    ("low", "high", "choices"),
    [
        (0.5, 5.0, [1, 2, 3, 4, 5]),
        (0, 1, [0, 0.25, 0.5, 0.75, 1]),
        (-10, 10, [-10, -5, 0, 5, 10]),
        (3, 3, [3]),
    ],
)
def test_the_ratings_on_offer_lie_on_the_scale(low, high, choices) -> None:
    assert rating_choices(low, high) == choices


def test_a_list_has_stars_or_bars_where_scores_only_order_it(showcase) -> None:
    model = showcase.recommender.manifest.model
    found = showcase.recommend(str(showcase.recommender.users.one_id(3)), 5)
    shown = card("picks", found, showcase, "For somebody")
    assert shown.count('class="stars"') == (5 if model.scores == "ratings" else 0)
    widths = [float(width) for width in re.findall(r'bar-track"[^>]*><span style="width:([\d.]+)%', shown)]
    if model.scores == "ratings":
        assert widths == []
    else:
        scores = np.array([row.score for row in found.rows])
        np.testing.assert_allclose(widths, 100 - 100 * (scores[0] - scores) / model.list_span, atol=0.051)
    for row in found.rows:
        assert (row.rating is None) == (model.scores == "ranking")
        if row.rating is not None:
            assert f"<b>{round(row.rating, 2):,.12g}</b>" in shown


def test_stars_are_drawn_where_a_rating_is_out_of_five() -> None:
    assert "★" in card("stars", 4.5, (0.5, 5.0))
    out_of_100 = card("stars", 40.0, (0.0, 100.0))
    assert "★" not in out_of_100
    assert "40" in out_of_100
