"""The demo page in a real Chromium: what people do with each tab, in a good and an empty state."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import expect
from tabs import HOSTILE, PHONE, findings, picture, read_list, wait_for_list, wait_in_tab

from serve import Profiles
from serve.bundle.titles import displayed

TABS = ["Pick a user", "New here", "Similar items", "Map", "Model"]


def go(tab: Any, name: str) -> None:
    tab.get_by_role("tab", name=name, exact=True).click()
    expect(tab.get_by_role("tab", name=name, exact=True)).to_have_attribute("aria-selected", "true")


def listed(tab: Any, where: str) -> list[tuple[str, float]]:
    return read_list(tab.locator(f"{where} .items li"), ".title", ".measure b")


def named(served: Any, index: int) -> str:
    item = served.recommender.items[int(index)]
    if item.title is None:
        return f"Item {item.item_id}"
    return displayed(item.title).removesuffix(f" ({item.year})")


def line(served: Any, index: int) -> str:
    return displayed(served.recommender.items.label(int(index)))


def check(tab: Any, where: str, served: Any, ranking: Any, n: int = 10) -> None:
    """The list is this ranking; made-up weights have no near ties, so the order is strict."""
    titles = [named(served, index) for index in ranking.item_indices[:n]]
    wanted = list(zip(titles, ranking.ratings[:n].tolist(), strict=True))
    wait_for_list(tab.locator(f"{where} .items li"), ".title", ".measure b", wanted)


def search(tab: Any, query: str, text: str) -> None:
    box = tab.locator(f"#{query} textarea, #{query} input").first
    box.fill(text)
    box.press("Enter")


def choose(tab: Any, where: str, option: str) -> None:
    tab.locator(f"#{where} input").click()
    tab.get_by_role("option", name=option, exact=True).click()


def rate(tab: Any, served: Any, index: int, stars: int) -> None:
    search(tab, "rate-query", served.recommender.items.label(index))
    title = named(served, index)
    row = tab.locator("#rate-found li").filter(has=tab.get_by_text(title, exact=True))
    row.locator(f"[data-value='{stars}']").click()
    expect(tab.locator("#rated .title").first).to_have_text(title)


def test_pick_a_user(open_page, pages) -> None:
    served = pages["dot-bias"]
    recommender = served.recommender
    tab = open_page("dot-bias")
    check(tab, "#picks", served, recommender.recommend(10))
    expect(tab.locator("#picks .timing")).to_have_text(re.compile(r"^CPU · \d+\.\d\d ms$"))

    search(tab, "user-query", "250")
    expect(tab.locator("#picks h2")).to_have_text("For user 250")
    check(tab, "#picks", served, recommender.recommend(250))
    choose(tab, "user", "250")

    history = recommender.seen.history(recommender.users.lookup_one(250))
    newest = history.item_indices[np.argsort(-history.timestamps, kind="stable")]
    expect(tab.locator("#history .title")).to_have_text([named(served, index) for index in newest])
    tab.get_by_role("button", name="Options").click()
    tab.locator("#order").get_by_text("Best first").click()
    expect(tab.locator("#history .title").first).to_have_text(
        named(served, history.item_indices[int(history.ratings.argmax())])
    )
    best_first = sorted(history.ratings.tolist(), reverse=True)
    wait_in_tab(
        tab, lambda: [stars for _, stars in listed(tab, "#history")], lambda found: found == best_first
    )

    for given, n in (("99999", 50), ("-3", 1), ("", 10)):
        tab.locator("#k input[type=number]").fill(given)
        expect(tab.locator("#picks li")).to_have_count(recommender.recommend(250, n).count)
    tab.locator("#k input[type=number]").fill("3")
    check(tab, "#picks", served, recommender.recommend(250, 3), 3)
    tab.get_by_label("Leave out what they have rated").uncheck()
    check(tab, "#picks", served, recommender.recommend(250, 3, exclude_seen=False), 3)
    choose(tab, "genre", "Drama")
    expect(tab.locator("#picks .chip")).to_have_text(["Drama"] * 3)
    items = [recommender.items[index] for index in range(1, 51)]
    others = [item.item_id for item in items if "Drama" not in item.genres]
    wanted = recommender.recommend(250, 3, exclude_seen=False, exclude_item_ids=others)
    check(tab, "#picks", served, wanted, 3)
    picture(tab, "demo-user")


@pytest.mark.slow
def test_an_unknown_user_gets_the_average_users_list(open_page, pages) -> None:
    served = pages["dot-bias"]
    tab = open_page("dot-bias")
    for typed in ("nobody", HOSTILE, "\u202e\x00" + "9" * 5000):
        search(tab, "user-query", typed)
        expect(tab.locator("#user-note")).to_contain_text("gets the average user's list")
        expect(tab.locator("#picks h2")).to_have_text("For the average user")
        check(tab, "#picks", served, served.recommender.recommend(11))
        expect(tab.locator("#history")).to_contain_text("No user is chosen")
        if typed == "nobody":
            picture(tab, "demo-user-empty")
        # Nothing typed: the first users again.
        search(tab, "user-query", "")
        expect(tab.locator("#picks h2")).to_have_text("For user 10")
        expect(tab.locator("#user-note")).to_be_hidden()
    assert tab.title() == "tiny: dot-bias"


def test_ratings_are_folded_in_and_answers_lead_to_a_profile(open_page, pages) -> None:
    served = pages["dot-bias"]
    recommender = served.recommender
    tab = open_page("dot-bias")
    go(tab, "New here")
    expect(tab.locator("#folded h2")).to_have_text("Which of these have you seen?")
    expect(tab.locator("#folded .rate")).to_have_count(12)
    picture(tab, "demo-new-empty")
    what_is_not_found_is_said(tab)
    given = {3: 5, 17: 1, 41: 4}
    for index, stars in given.items():
        rate(tab, served, index, stars)
    ids = [recommender.items[index].item_id for index in given]
    expect(tab.locator("#folded h2")).to_have_text("From your 3 ratings")
    check(tab, "#folded", served, recommender.fold_in(ids, [5.0, 1.0, 4.0]))
    expect(tab.locator("#rated .title")).to_have_text([named(served, index) for index in (41, 17, 3)])
    picture(tab, "demo-new")
    # Changing a mind, taking one back, and undoing both.
    tab.locator("#rated li").nth(1).locator("[data-value='5']").click()
    check(tab, "#folded", served, recommender.fold_in(ids, [5.0, 5.0, 4.0]))
    tab.locator("#rated li").nth(1).get_by_role("button", name="Remove").click()
    check(tab, "#folded", served, recommender.fold_in([ids[0], ids[1]], [5.0, 5.0]))
    undo = tab.locator("#folded").get_by_role("button", name="Undo")
    undo.click()
    check(tab, "#folded", served, recommender.fold_in(ids, [5.0, 5.0, 4.0]))
    undo.click()
    check(tab, "#folded", served, recommender.fold_in(ids, [5.0, 1.0, 4.0]))
    # The stars of the list itself, and hiding.
    first = recommender.fold_in(ids, [5.0, 1.0, 4.0]).item_ids[0]
    tab.locator("#folded li").first.locator("[data-value='2']").click()
    wanted = recommender.fold_in([*ids, first], [5.0, 1.0, 4.0, 2.0], 20)
    check(tab, "#folded", served, wanted)
    hidden = named(served, wanted.item_indices[0])
    tab.locator("#folded li").first.get_by_role("button", name="Hide").click()
    expect(tab.locator("#folded .undo span")).to_have_text(f"Hidden: {line(served, wanted.item_indices[0])}.")
    expect(tab.locator("#folded .title").first).to_have_text(named(served, wanted.item_indices[1]))
    # The browser keeps all of it.
    tab.reload()
    go(tab, "New here")
    expect(tab.locator("#folded h2")).to_have_text("From your 4 ratings")
    expect(tab.locator("#folded .title").first).to_have_text(named(served, wanted.item_indices[1]))
    expect(tab.locator("#folded .items")).not_to_contain_text(hidden)
    for n in (4, 3, 2, 1):
        undo.click()
        expect(tab.locator("#folded h2")).to_have_text(f"From your {n} rating{'s' if n > 1 else ''}")
    undo.click()
    expect(tab.locator("#folded h2")).to_have_text("Which of these have you seen?")
    expect(tab.locator("#rated")).to_be_hidden()
    answer_questions(tab, served)


def what_is_not_found_is_said(tab: Any) -> None:
    search(tab, "rate-query", "   ")
    expect(tab.locator("#rate-found")).to_contain_text("Type a few words")
    search(tab, "rate-query", "zzzz" * 40)
    expect(tab.locator("#rate-found")).to_contain_text("Nothing is called")
    search(tab, "rate-query", "movei 13 the")  # mistyped: the nearest titles
    expect(tab.locator("#rate-found")).to_contain_text("The nearest titles")
    expect(tab.locator("#rate-found")).to_contain_text("The Movie 13")


def answer_questions(tab: Any, served: Any) -> None:
    profiles = Profiles.of(served.recommender)
    go(tab, "Answer questions")
    expect(tab.locator("#answered")).to_contain_text("this is what the average user gets")
    given = {profiles.questions[0].item_index: "like", profiles.questions[1].item_index: "dislike"}
    for place, answer in enumerate(["Like", "Dislike"]):
        button = tab.locator("#questions .items > li").nth(place).get_by_text(answer, exact=True)
        button.click()
        expect(button).to_have_attribute("aria-pressed", "true")
    place = profiles.match(given)
    assert place is not None
    groups = tab.locator("#answered details li")
    expect(groups).to_have_count(len(profiles.profiles))
    expect(groups.nth(place)).to_have_attribute("aria-current", "true")
    expect(tab.locator("#answered")).to_contain_text("You answer most like fans of ")
    check(tab, "#answered", served, profiles.recommend(place, exclude_item_indices=list(given)))
    for place in range(2):  # taken back
        tab.locator("#questions .items > li").nth(place).get_by_role("button", name="Not seen").click()
    expect(tab.locator("#answered")).to_contain_text("this is what the average user gets")
    picture(tab, "demo-questions")


def test_similar_items_and_why(open_page, pages) -> None:
    served = pages["dot-bias"]
    recommender = served.recommender
    tab = open_page("dot-bias")
    go(tab, "Similar items")
    expect(tab.locator("#neighbours")).to_contain_text("No item is chosen")
    picture(tab, "demo-similar-empty")
    search(tab, "similar-query", "zzzz")
    expect(tab.locator("#similar-note")).to_be_visible()
    search(tab, "similar-query", "movie 13,")
    ranking = recommender.similar_items(1013)
    wanted = [named(served, index) for index in ranking.item_indices]
    expect(tab.locator("#neighbours .items .title")).to_have_text(wanted)
    histories = [set(recommender.seen.of_user(user).tolist()) for user in range(1, 31)]
    for row, index in zip(
        tab.locator("#neighbours .items li").all(), ranking.item_indices.tolist(), strict=True
    ):
        both = sum({13, index} <= history for history in histories)
        n = sum(index in history for history in histories)
        said = row.locator(".why").inner_text()
        assert f"{both or 'none'} of the {n} people who rated it rated both" in said
        shared = [
            name
            for name in recommender.items[index].genres
            if name in recommender.items[13].genres and not name.startswith("(")
        ]
        assert "same genre" not in said  # the chips say it; where there are none, on a phone, the text
        assert row.locator(".chip.shared").all_inner_texts() == shared
    picture(tab, "demo-similar")


@pytest.mark.slow
def test_map_biases_and_model_card(open_page, pages) -> None:
    served = pages["dot-bias"]
    recommender = served.recommender
    tab = open_page("dot-bias")
    config = tab.request.get(f"{served.url}/config").text()
    assert not any(text in config for text in ("Factor map", "Parity with torch"))  # drawn for who looks
    go(tab, "Map")
    rated = {index for user in range(1, 31) for index in recommender.seen.of_user(user).tolist()}
    expect(tab.locator("#map use")).to_have_count(len(rated))
    titles = tab.locator("#map g > title").all_text_contents()
    assert {text.rpartition(":")[0] for text in titles} == {line(served, index) for index in rated}
    legend = tab.locator("#map .legend li").all_inner_texts()
    assert {"Drama", "Action", "Comedy", "Romance"} <= {text.strip() for text in legend}
    biases = recommender.bundle.table("item_biases").reshape(-1)
    order = sorted(rated, key=lambda index: -biases[index])
    shown = [title for title, _ in listed(tab, "#biases")]
    assert shown == [named(served, index) for index in [*order[:8], *order[::-1][:8]]]
    picture(tab, "demo-map")
    manifest = recommender.manifest
    go(tab, "Model")
    rmse, data = f"{manifest.metrics['rmse']:.4f}", manifest.data
    for text in (rmse, "Parity with torch", "user_factors", data.licence, data.sha256):
        expect(tab.locator("#card")).to_contain_text(text)
    picture(tab, "demo-model")


@pytest.mark.slow
def test_a_model_without_fold_in_and_biases_says_so(open_page, pages) -> None:
    served = pages["mlp"]
    recommender = served.recommender
    tab = open_page("mlp")
    go(tab, "New here")
    expect(tab.locator("#folded")).to_contain_text("can't fold new ratings in")
    best = recommender.recommend(11, 1)
    rate(tab, served, int(best.item_indices[0]), 2)
    check(tab, "#folded", served, recommender.recommend(11, 10, exclude_item_ids=best.item_ids.tolist()))
    expect(tab.locator("#folded h2")).to_have_text("For the average user")
    go(tab, "Map")
    expect(tab.locator("#biases")).to_contain_text("No item biases")
    expect(tab.locator("#map use").first).to_be_visible()


def test_a_bundle_without_ratings(open_page, pages) -> None:
    """Nothing can be left out, nobody has a history, and the page says why."""
    served = pages["without seen"]
    tab = open_page("without seen")
    check(tab, "#picks", served, served.recommender.recommend(10, exclude_seen=False))
    expect(tab.locator("#history")).to_contain_text("it was exported without them")
    expect(tab.locator("#exclude-seen")).to_have_count(0)
    go(tab, "Similar items")
    search(tab, "similar-query", "Movie 1,")
    expect(tab.locator("#neighbours li").first).to_be_visible()


@pytest.mark.slow
def test_ids_alone_are_enough(open_page, pages) -> None:
    served = pages["bare"]
    tab = open_page("bare")
    check(tab, "#picks", served, served.recommender.recommend(10))
    expect(tab.locator("#genre")).to_be_hidden()
    go(tab, "New here")
    expect(tab.get_by_role("tab", name="Answer questions")).to_have_count(0)
    search(tab, "rate-query", "1013")
    expect(tab.locator("#rate-found")).to_contain_text("Item 1013")
    tab.locator("#rate-found [data-value='5']").first.click()
    expect(tab.locator("#folded h2")).to_have_text("From your 1 rating")
    check(tab, "#folded", served, served.recommender.fold_in([1013], [5.0]))
    go(tab, "Similar items")
    search(tab, "similar-query", "1001")
    expect(tab.locator("#neighbours .why").first).to_be_visible()


@pytest.mark.slow
def test_markup_in_string_ids_titles_and_genres_is_text(open_page, pages) -> None:
    tab = open_page("hostile")
    for name in TABS:
        go(tab, name)
    go(tab, "New here")
    search(tab, "rate-query", "img")
    expect(tab.locator("#rate-found li").first).to_contain_text("<script>")
    tab.locator("#rate-found [data-value='5']").first.click()
    expect(tab.locator("#folded h2")).to_have_text("From your 1 rating")
    recommender = pages["hostile"].recommender
    (rated,) = recommender.items.search("img", 1)
    wanted = recommender.fold_in([recommender.items[rated].item_id], [5.0]).ratings
    np.testing.assert_allclose([rating for _, rating in listed(tab, "#folded")], wanted, atol=0.0051)
    go(tab, "Answer questions")
    tab.locator("#questions .items > li").first.get_by_text("Like", exact=True).click()
    expect(tab.locator("#answered h2")).to_have_text("For people like you")
    go(tab, "Similar items")
    search(tab, "similar-query", "script")
    expect(tab.locator("#neighbours .why").first).to_be_visible()
    go(tab, "Pick a user")
    search(tab, "user-query", "<img")
    expect(tab.locator("#picks h2")).to_contain_text("For user <img src=x")
    choose(tab, "genre", "<b>bold</b>")
    expect(tab.locator("#picks .chip").first).to_have_text("<b>bold</b>")
    assert tab.locator("img[src=x], [onerror], .recsys script, .recsys .chip b").count() == 0
    assert tab.title() == "tiny: dot-bias"


@pytest.mark.slow
def test_by_keyboard_alone(open_page, pages) -> None:
    tab = open_page("dot-bias")
    tab.get_by_role("tab", name="Pick a user", exact=True).focus()
    tab.keyboard.press("Tab")
    tab.keyboard.press("Enter")
    expect(tab.get_by_role("tab", name="New here", exact=True)).to_have_attribute("aria-selected", "true")
    box = tab.locator("#rate-query textarea, #rate-query input").first
    press_until(tab, box)
    tab.keyboard.type("movie 13,")
    tab.keyboard.press("Enter")
    expect(tab.locator("#rate-found li")).to_have_count(1)
    press_until(tab, tab.locator("#rate-found [data-value='5']"))
    tab.keyboard.press("Enter")
    expect(tab.locator("#folded h2")).to_have_text("From your 1 rating")
    check(tab, "#folded", pages["dot-bias"], pages["dot-bias"].recommender.fold_in([1013], [5.0]))
    press_until(tab, tab.locator("#rated").get_by_role("button", name="Remove"))
    tab.keyboard.press("Space")
    expect(tab.locator("#folded h2")).to_have_text("Which of these have you seen?")


def press_until(tab: Any, target: Any) -> None:
    """Press Tab until the target has the focus."""
    for _ in range(120):
        if target.evaluate("element => element === document.activeElement"):
            return
        tab.keyboard.press("Tab")
    raise AssertionError("the keyboard does not get there")


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_has_no_serious_finding_and_a_phone_needs_no_sideways_scroll(open_page, pages, scheme) -> None:
    tab = open_page("dot-bias", color_scheme=scheme, viewport=PHONE)
    shade = tab.evaluate("getComputedStyle(document.body).backgroundColor.match(/[\\d.]+/g).map(Number)")
    assert (sum(shade[:3]) < 200) == (scheme == "dark")
    problems = []

    def audit(name: str) -> None:
        tab.wait_for_function(SETTLED)
        problems.extend(f"{name}: {found}" for found in findings(tab, scheme) if SERIOUS.search(found))
        assert tab.evaluate("document.documentElement.scrollWidth") <= PHONE["width"], name
        picture(tab, f"demo-phone-{name.replace(' ', '-').lower()}-{scheme}")

    for name in TABS:
        go(tab, name)
        if name == "New here":
            rate(tab, pages["dot-bias"], 3, 5)
            audit("Rate a few")
            go(tab, "Answer questions")
        elif name == "Similar items":
            search(tab, "similar-query", "movie 13,")
            expect(tab.locator("#neighbours .why").first).to_be_visible()
        elif name in DRAWN:
            expect(tab.locator(DRAWN[name])).to_be_visible()
        audit(name)
    assert problems == []


DRAWN = {"Map": "#map svg", "Model": "#card .tiles"}
SERIOUS = re.compile(r"\((serious|critical)\)")
# While an answer is on its way, Gradio dims what it will replace.
SETTLED = """() => !document.querySelector(".pending")
    && document.getAnimations().every(
        a => a.playState !== "running" || a.effect.getComputedTiming().endTime === Infinity)"""


@pytest.mark.slow
def test_on_paper_there_is_what_was_found(open_page, pages) -> None:
    """Whole lists, and nothing to press: a printed page has no scroll bar."""
    tab = open_page("dot-bias", color_scheme="dark")
    expect(tab.locator("#history .items li").last).to_be_attached()
    tab.emulate_media(media="print")
    for gone in ("#user", "#options", "#picks .actions >> nth=0", "[role=tablist] >> nth=0"):
        expect(tab.locator(gone)).to_be_hidden()
    expect(tab.locator("#picks .stars").first).to_be_visible()
    cut = "all => all.filter(e => e.scrollHeight > e.clientHeight + 1).length"
    assert tab.locator(".recsys .items").evaluate_all(cut) == 0
    assert (
        tab.evaluate("getComputedStyle(document.querySelector('#picks .recsys')).color") == "rgb(28, 36, 48)"
    )
