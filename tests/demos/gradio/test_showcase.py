"""The page's answers against slow, obvious ones."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from fixture_bundles import BUNDLES, FIXTURES

from demos.gradio_app import cards
from demos.gradio_app.columns import UserSearch, items_by_genre, raters
from demos.gradio_app.showcase import Showcase
from serve.bundle.ids import write_users
from serve.errors import RequestError
from serve.runtime.recommender import Recommender


def test_a_user_id_may_begin_with_a_space(tmp_path) -> None:
    bundle = shutil.copytree(FIXTURES / "dot-bias-string-ids", tmp_path / "bundle")
    recommender = Recommender.load(bundle, "cpu")
    # Checked by now, and read at the first look-up.
    (bundle / "users.parquet").unlink()
    write_users(bundle / "users.parquet", [" x", "x", *(f"user {place}" for place in range(3, 31))])
    showcase = Showcase(recommender)
    assert [showcase.user_index(text) for text in (" x", "x", "x ", " user 3 ", "z")] == [1, 2, 2, 3, 0]


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


def test_a_genre_gets_its_best_and_only_its(showcase) -> None:
    recommender = showcase.recommender
    user_id = recommender.users.one_id(3)
    for genre, members in showcase.genres.items():
        scores = recommender.score_indices(np.full(len(members), 3), members)
        seen = set(recommender.seen.of_user(3).tolist())
        order = [int(index) for index in members[np.argsort(-scores, kind="stable")] if index not in seen]
        found = showcase.recommend(str(user_id), 50, genre=genre)
        assert [pick.item.item_index for pick in found.picks] == order
    with pytest.raises(RequestError, match="no item has the genre 'Opera'"):
        showcase.recommend(str(user_id), genre="Opera")


@pytest.mark.parametrize("ids", [[7, 12, 120, 1200, 31], ["amy", "bob", "amy2", "xamy", "%_"]])
def test_users_by_how_their_ids_begin(tmp_path, ids) -> None:
    write_users(tmp_path / "users.parquet", ids)

    class Folder:
        def file(self, name: str):
            return tmp_path / name

    users = UserSearch(Folder())  # type: ignore[arg-type]
    assert users.find("") == [str(value) for value in ids]
    start = "12" if ids[0] == 7 else "amy"
    wanted = ["12", "120", "1200"] if ids[0] == 7 else ["amy", "amy2", "xamy"]
    assert users.find(start) == wanted
    assert users.find(start, 1) == wanted[:1]
    assert users.find("%") == (["%_"] if ids[0] == "amy" else [])
    assert users.find("nobody") == []


@pytest.mark.parametrize(
    ("low", "high", "choices"),
    [
        (0.5, 5.0, [1, 2, 3, 4, 5]),
        (1, 5, [1, 2, 3, 4, 5]),
        (0, 1, [0, 0.25, 0.5, 0.75, 1]),
        (-10, 10, [-10, -5, 0, 5, 10]),
        (0, 100, [0, 25, 50, 75, 100]),
        (3, 3, [3]),
    ],
)
def test_the_ratings_that_are_offered_lie_on_the_scale(showcase, monkeypatch, low, high, choices) -> None:
    monkeypatch.setattr(Showcase, "ratings_range", property(lambda self: (low, high)))
    assert showcase.rating_choices() == choices


def test_stars_are_drawn_where_a_rating_is_out_of_five() -> None:
    assert "★" in cards.stars(4.5, (0.5, 5.0))
    assert "★" not in cards.stars(40, (0.0, 100.0))
    assert "40" in cards.stars(40, (0.0, 100.0))
