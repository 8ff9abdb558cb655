"""The page's answers against slow, obvious ones."""

from __future__ import annotations

import csv
import io
import re
import shutil
from urllib.parse import unquote

import numpy as np
import pytest
from fixture_bundles import BUNDLES, FIXTURES, RAW_ID_FIXTURES, edit_manifest

from demos.gradio_app.cards import because, card, label, shown
from demos.gradio_app.columns import items_by_genre, raters
from demos.gradio_app.download import download
from demos.gradio_app.options import ListOptions
from demos.gradio_app.showcase import Listing, Row, Showcase
from demos.gradio_app.tabs.newcomer import _groups, rating_choices
from demos.gradio_app.tabs.user import address, clamped
from demos.report.popularity import popularity_bands
from serve import Recommender, Variety
from serve.bundle.ids import write_users
from serve.bundle.items import Item
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
        rows = showcase.recommend(user_id, ListOptions(50, genre=genre)).rows
        assert [row.item.item_index for row in rows] == order
        assert rows == showcase.recommend(user_id, ListOptions(50, genre=genre.upper())).rows
    with pytest.raises(RequestError, match="no item has the genre 'Opera'"):
        showcase.recommend(user_id, ListOptions(genre="Opera"))


@pytest.mark.parametrize(
    "asked",
    [
        {"min_year": 1960, "max_year": 1975},
        {"max_year": 1960},
        {"min_ratings": 12},
        {"max_ratings": 10},
        {"min_year": 1960, "min_ratings": 5, "genre": "Drama", "hidden": (20, 30)},
        {"min_year": -5, "max_year": 10**12, "min_ratings": 0},
    ],
)
def test_options_list_all_items_that_obey(showcase, asked) -> None:
    items, counts = showcase.recommender.items, np.zeros(51, int)
    for user in range(1, 31):
        counts[showcase.recommender.seen.of_user(user)] += 1

    def lies_between(year: int | None) -> bool:
        if year is None:
            return "min_year" not in asked
        return asked.get("min_year", 0) <= year <= asked.get("max_year", 9999)

    wanted = [
        row
        for row in showcase.recommend("nobody", ListOptions(50)).rows
        if lies_between(items[row.item.item_index].year)
        and asked.get("min_ratings", 0) <= counts[row.item.item_index] <= asked.get("max_ratings", 999)
        and asked.get("genre", row.item.genres[0]) in row.item.genres
        and row.item.item_index not in asked.get("hidden", ())
    ]
    assert showcase.recommend("nobody", ListOptions(50, **asked)).rows == wanted


@pytest.mark.parametrize("what", ["year", "ratings"])
def test_bounds_that_leave_nothing_are_refused(showcase, what) -> None:
    options = ListOptions(**{f"min_{what}": 9, f"max_{what}": 8})
    with pytest.raises(RequestError, match=f"min_{what} is 9, more than max_{what}, 8"):
        showcase.recommend("nobody", options)


def test_years_are_brought_into_those_of_the_data() -> None:
    wanted = {1700: 1902, 9999: 2018, 1950: 1950, -7: 1902}
    assert {year: clamped(year, (1902, 2018)) for year in wanted} == wanted


def test_bands_of_popularity_have_items() -> None:
    counts = np.array([0, *range(1, 101), 0, 0])
    bands = popularity_bands(counts)
    assert list(bands.values()) == [(None, None), (90, None), (None, 50)]
    assert popularity_bands(np.array([0, 1, 1])) == {
        "All": (None, None),
        "Well known: 1 rating or more": (1, None),
    }
    assert list(popularity_bands(np.array([0]))) == ["All"]


def test_hidden_items_make_room_for_the_next(showcase) -> None:
    user_id = str(showcase.recommender.users.one_id(3))
    rows = showcase.recommend(user_id, ListOptions(12)).rows
    hidden = rows[0].item.item_index, rows[4].item.item_index
    left = showcase.recommend(user_id, ListOptions(10, hidden=hidden)).rows
    assert left == [row for row in rows if row.item.item_index not in hidden]
    given = {5: showcase.scale[1], 9: showcase.scale[0], 30: showcase.scale[1]}
    rows = showcase.fold_in(given, 12).rows
    hidden = rows[0].item.item_index, rows[4].item.item_index
    assert showcase.fold_in(given, 10, hidden).rows == [
        row for row in rows if row.item.item_index not in hidden
    ]


VARIETIES = [
    Variety(diversity=0.7),
    Variety(surprise=-0.5, max_per_category=2),
    pytest.param(Variety(diversity=0.3, surprise=0.5, max_per_category=1), marks=pytest.mark.slow),
]


@pytest.mark.parametrize("variety", VARIETIES)
def test_variety_is_the_recommenders(showcase, variety) -> None:
    recommender = showcase.recommender
    user_id = recommender.users.one_id(3)
    rows = showcase.recommend(str(user_id), ListOptions(7, variety=variety)).rows
    wanted = recommender.recommend(user_id, 7, variety=variety)
    assert [row.item.item_index for row in rows] == wanted.item_indices.tolist()
    if showcase.has_fold_in:
        given = {5: showcase.scale[1], 9: showcase.scale[0]}
        ids = [recommender.items[index].item_id for index in given]
        rows = showcase.fold_in(given, 7, variety=variety).rows
        wanted = recommender.fold_in(ids, list(given.values()), 7, variety=variety)
        assert [row.item.item_index for row in rows] == wanted.item_indices.tolist()


@pytest.fixture(scope="module")
def explained() -> Showcase:
    return Showcase(Recommender.load(RAW_ID_FIXTURES / "parts", "cpu"))


def test_reasons_are_the_recommenders(explained) -> None:
    recommender = explained.recommender
    user_id = recommender.users.one_id(3)
    found = explained.recommend(str(user_id), ListOptions(6, genre="Drama"))
    wanted = recommender.explain(user_id, [row.item.item_id for row in found.rows])
    np.testing.assert_array_equal(found.reasons.contributions, wanted.contributions)
    np.testing.assert_allclose(found.reasons.row_scores, [row.score for row in found.rows], rtol=1e-6)
    for place in range(len(found.rows)):
        told = because(found.reasons, place)
        named = sum(contribution for _, _, contribution in told["ratings"])
        assert named + told["others"] + told["rest"] == pytest.approx(told["score"], abs=1e-5)
        assert len(told["ratings"]) + told["n_others"] == len(recommender.seen.of_user(3))
    shown = re.sub("<[^>]*>", " ", card("picks", found, explained, "For somebody", None, ("hide",)))
    for told in shown.split("Because they rated")[1:]:
        added, together = told.split(": together", 1)
        terms = [float(term) for term in re.findall(r"[+-]\d+\.\d+", added)]
        assert sum(terms) == pytest.approx(float(together.split(",")[0]), abs=0.005 * len(terms) + 0.006)
    given = {5: 5.0, 9: 1.0, 30: 4.0}
    found = explained.fold_in(given, 6, hidden=[explained.fold_in(given).rows[0].item.item_index])
    titled = {recommender.items[index].item_id: value for index, value in given.items()}
    wanted = recommender.explain(titled, [row.item.item_id for row in found.rows])
    np.testing.assert_array_equal(found.reasons.contributions, wanted.contributions)
    assert found.reasons.row_scores is None


def test_a_list_says_what_orders_it_where_its_ratings_do_not_fall(explained, showcase) -> None:
    said = "The likeliest choices first"
    assert said in card("picks", explained.recommend("10"), explained, "For somebody")
    varied = explained.recommend("10", ListOptions(variety=Variety(diversity=0.9)))
    shown = card("picks", varied, explained, "For somebody")
    assert said not in shown
    assert "Varied as asked" in shown
    model = showcase.recommender.manifest.model
    has_both = (model.scores, model.lists) == ("ratings", "ranking")
    assert (said in card("picks", showcase.recommend("10"), showcase, "For somebody")) == has_both


def test_no_reasons_where_nothing_is_rated_or_nothing_explains(explained, showcase) -> None:
    assert explained.recommend("nobody").reasons is None
    assert explained.fold_in({}).reasons is None
    assert showcase.recommend(str(showcase.recommender.users.one_id(3))).reasons is None
    found = showcase.recommend(str(showcase.recommender.users.one_id(3)))
    assert "Why" not in card("picks", found, showcase, "For somebody", None, ("hide",))


def test_no_two_profiles_have_one_name_or_one_item(showcase) -> None:
    groups = _groups(showcase, showcase.profiles)
    assert len({group["genres"] for group in groups}) == len(groups) > 1
    likes = [title for group in groups for title in group["likes"]]
    assert len(set(likes)) == len(likes) > 0


def test_profiles_without_genres_are_named_by_their_items() -> None:
    groups = [
        {"genres": "", "n_users": 1, "likes": ["<b>"]},
        {"genres": "A and B", "n_users": 2, "likes": []},
    ]
    assert "You answer most like group 1<" in card("profiles", groups, 0)
    assert "&lt;b&gt;" in card("profiles", groups, 0)
    assert "You answer most like fans of A and B<" in card("profiles", groups, 1)
    assert "what the average user gets" in card("profiles", groups, None)


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        (ListOptions(), {"k": 10}),
        (
            ListOptions(5, False, "Drama", 1960, 1970, None, 9, variety=Variety(surprise=-0.5)),
            {"k": 5, "genre": "Drama", "from": 1960, "to": 1970, "known": "less", "rated": "listed"}
            | {"surprise": "-0.5"},
        ),
        (
            ListOptions(variety=Variety(diversity=0.25, max_per_category=3)),
            {"k": 10, "diversity": "0.25", "max_per_category": 3},
        ),
    ],
)
def test_addresses_leave_out_what_is_as_usual(options, wanted) -> None:
    assert address("7", options, "Less known: 9 or fewer") == {"user": "7", "tab": "user", **wanted}


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
    found = showcase.recommend(str(showcase.recommender.users.one_id(3)), ListOptions(5))
    shown = card("picks", found, showcase, "For somebody")
    assert shown.count('class="stars"') == (5 if model.scores == "ratings" else 0)
    widths = [float(width) for width in re.findall(r'bar-track"[^>]*><span style="width:([\d.]+)%', shown)]
    mean = float(showcase.recommender.seen.history(3).ratings.mean())
    if model.scores == "ratings":
        above = np.array([row.rating for row in found.rows]) - mean
        wanted = 50 * np.abs(above) / np.abs(above).max()
        halves = re.findall(r'bar-track middle"[^>]*><span.*?(left|right):50%;width:([\d.]+)%', shown)
        np.testing.assert_allclose([float(width) for _, width in halves], wanted, atol=0.051)
        assert [side == "left" for side, _ in halves] == (above >= 0).tolist()
        assert widths == []
    else:
        every = showcase.recommend(str(showcase.recommender.users.one_id(3)), ListOptions(50)).rows
        scores, lowest = np.array([row.score for row in found.rows]), every[-1].score
        np.testing.assert_allclose(widths, 100 * (scores - lowest) / (scores[0] - lowest), atol=0.051)
    for row in found.rows:
        assert (row.rating is None) == (model.scores == "ranking")
        if row.rating is not None:
            assert f"<b>{row.rating:.2f}</b>" in shown


def test_the_genre_that_was_asked_for_comes_first() -> None:
    item = Item(1, 1, "Matrix, The (1999)", ("Action", "Sci-Fi", "(none)", "Thriller", "Drama"), 1999)
    assert shown(item, ["Drama"])["genres"] == ["Drama", "Action", "Sci-Fi"]
    assert shown(item)["title"] == "The Matrix"


@pytest.mark.parametrize(
    ("item_id", "title", "wanted"),
    [
        (7, None, "Item 7"),
        ("Braveheart (1995)", None, "Braveheart (1995)"),
        (7, "Piano, The (1993)", "The Piano (1993)"),
        (7, "", ""),
    ],
)
def test_an_item_is_called_by_its_title_or_its_id(item_id, title, wanted) -> None:
    assert label(Item(1, item_id, title, (), None)) == wanted


def test_a_download_holds_the_list_and_no_formula() -> None:
    titles = [
        '=HYPERLINK("http://x")',
        "@SUM(A1)",
        "+1 (1999)",
        "-5",
        "  =1",
        'Say "hi", twice\nor more',
        None,
    ]
    items = [Item(n, f"-{n}+1", title, ("=Drama", "B"), None) for n, title in enumerate(titles, 1)]
    rows = [Row(item, 1 / item.item_index, None if item.item_index > 3 else 4.5) for item in items]
    file = download(Listing(rows, True, "cpu", 1.0, 0.0), 'user ../../"<x>')
    assert file.name == "recommendations-user-x.csv"
    scheme, _, content = file.href.partition(",")
    assert scheme == "data:text/csv;charset=utf-8"
    assert re.fullmatch(r"[\w%./~-]*", content)
    text = unquote(content)
    assert text.startswith("\ufeffrank,item_id,title,year,genres,score,rating\r\n")
    cells = list(csv.reader(io.StringIO(text.removeprefix("\ufeff"), newline="")))[1:]
    assert [row[2] for row in cells] == [
        '\'=HYPERLINK("http://x")',
        "'@SUM(A1)",
        "'+1 (1999)",
        "-5",
        "'  =1",
        'Say "hi", twice\nor more',
        "",
    ]
    assert [row[1] for row in cells] == [f"'-{n}+1" for n in range(1, 8)]
    assert {row[4] for row in cells} == {"'=Drama|B"}
    assert [row[5:] for row in cells[:4]] == [
        ["1", "4.5000"],
        ["0.5", "4.5000"],
        ["0.333333", "4.5000"],
        ["0.25", ""],
    ]


@pytest.mark.parametrize(
    ("rating", "width", "number"), [(9.0, 100, "5.00"), (-3.0, 10, "0.50"), (4.0, 80, "4.00")]
)
def test_stars_never_leave_the_scale(rating, width, number) -> None:
    drawn = card("stars", rating, (0.5, 5.0), "predicted rating", 2)
    assert f"width:{width}%" in drawn
    assert f"<b>{number}</b>" in drawn


def test_stars_are_drawn_where_a_rating_is_out_of_five() -> None:
    assert "★" in card("stars", 4.5, (0.5, 5.0))
    out_of_100 = card("stars", 40.0, (0.0, 100.0))
    assert "★" not in out_of_100
    assert "40" in out_of_100
