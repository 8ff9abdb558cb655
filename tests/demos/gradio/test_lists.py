"""What people do with a list in a real Chromium: hide, undo, similar, links, a download."""

from __future__ import annotations

import csv
import io
import re
from typing import Any
from urllib.parse import quote

import pytest
from playwright.sync_api import expect
from tabs import HOSTILE, PHONE, wait_in_tab

from serve import Profiles, Variety
from serve.bundle.titles import displayed


def titles(tab: Any, where: str = "#picks") -> Any:
    return tab.locator(f"{where} .items .title")


def names(served: Any, indices: Any) -> list[str]:
    items = served.recommender.items
    return [
        displayed(items.label(int(index))).removesuffix(f" ({items[int(index)].year})") for index in indices
    ]


def test_rows_are_hidden_and_come_back(open_page, pages) -> None:
    served = pages["dot-bias"]
    tab = open_page("dot-bias")
    ranked = names(served, served.recommender.recommend(10, 12).item_indices)
    for n_hidden in (1, 2):
        tab.locator("#picks li").nth(2).get_by_role("button", name="Hide").click()
        expect(titles(tab)).to_have_text([*ranked[:2], *ranked[2 + n_hidden : 10 + n_hidden]])
    expect(tab.locator("#picks .undo")).to_contain_text(f"Hidden: {ranked[3]}")
    expect(tab.locator("#picks .undo")).to_contain_text("and 1 more")
    # The keyboard goes on in the row that took the place.
    assert tab.evaluate("document.activeElement.closest('#picks li .actions') !== null")
    tab.get_by_role("button", name="Undo").click()
    expect(titles(tab)).to_have_text([*ranked[:2], *ranked[3:11]])
    tab.get_by_role("button", name="Undo").click()
    expect(titles(tab)).to_have_text(ranked[:10])
    expect(tab.get_by_role("button", name="Undo")).to_be_hidden()


@pytest.mark.slow
def test_similar_leads_from_tab_to_tab(open_page, pages) -> None:
    served = pages["dot-bias"]
    tab = open_page("dot-bias")
    best = served.recommender.recommend(10, 1)
    tab.locator("#picks li").first.get_by_role("button", name="Similar").click()
    expect(tab.get_by_role("tab", name="Similar items")).to_have_attribute("aria-selected", "true")
    near = served.recommender.similar_items(best.item_ids[0])
    expect(titles(tab, "#neighbours")).to_have_text(names(served, near.item_indices))
    tab.locator("#neighbours li").nth(1).get_by_role("button", name="Similar").click()
    near = served.recommender.similar_items(near.item_ids[1])
    expect(titles(tab, "#neighbours")).to_have_text(names(served, near.item_indices))


def test_a_list_is_downloaded(open_page, pages, tmp_path) -> None:
    served = pages["dot-bias"]
    tab = open_page("dot-bias")
    with tab.expect_download() as downloading:
        tab.get_by_role("link", name="Download CSV").click()
    assert downloading.value.suggested_filename == "recommendations-user-10.csv"
    downloading.value.save_as(tmp_path / "list.csv")
    with (tmp_path / "list.csv").open(encoding="utf-8-sig", newline="") as file:
        found = list(csv.DictReader(file))
    wanted = served.recommender.recommend(10)
    assert [row["item_id"] for row in found] == [str(item_id) for item_id in wanted.item_ids]
    assert [float(row["rating"]) for row in found] == pytest.approx(wanted.ratings.tolist(), abs=1e-4)


@pytest.mark.slow
def test_a_copied_link_shows_the_list_again(open_page, pages) -> None:
    served = pages["dot-bias"]
    tab = open_page("dot-bias", permissions=["clipboard-read", "clipboard-write"])
    box = tab.locator("#user-query textarea, #user-query input").first
    box.fill("250")
    box.press("Enter")
    expect(tab.locator("#picks h2")).to_have_text("For user 250")
    tab.locator("#genre input").click()
    tab.get_by_role("option", name="Drama", exact=True).click()
    expect(tab.locator("#picks .chip.shared").first).to_have_text("Drama")
    tab.get_by_role("button", name="Copy link").click()
    expect(tab.get_by_role("button", name="Copied")).to_be_visible()
    link = tab.evaluate("navigator.clipboard.readText()")
    assert link == f"{served.url}/?user=250&tab=user&k=10&genre=Drama"
    shown = titles(tab).all_inner_texts()
    tab.goto(link)
    expect(tab.locator("#picks h2")).to_have_text("For user 250")
    expect(titles(tab)).to_have_text(shown)


def test_a_row_says_why(open_page, pages) -> None:
    recommender = pages["pair"].recommender
    tab = open_page("pair")
    why = recommender.recommend(10, reasons=True).reasons
    row = tab.locator("#picks .items > li").nth(1)
    expect(row.locator(".because")).to_be_hidden()
    row.get_by_role("button", name="Why").click()
    expect(row.locator(".because")).to_be_visible()
    expect(row.get_by_role("button", name="Why")).to_have_attribute("aria-expanded", "true")
    told = [displayed(reason.title) for reason in why.of(1)]
    expect(row.locator(".because .title")).to_have_text(told)
    with tab.expect_download() as downloading:
        tab.get_by_role("link", name="Download CSV").click()
    text = downloading.value.path().read_text(encoding="utf-8-sig")
    rows = list(csv.DictReader(io.StringIO(text, newline="")))
    assert [row["because_of"] for row in rows] == [
        "; ".join(map(str, why.of(place))) for place in range(len(rows))
    ]
    row.get_by_role("button", name="Why").click()
    expect(row.locator(".because")).to_be_hidden()
    # A new user's, too.
    tab.get_by_role("tab", name="New here").click()
    tab.locator("#folded .items > li").first.locator("[data-value='5']").first.click()
    expect(tab.locator("#folded h2")).to_have_text("From your 1 rating")
    tab.locator("#folded .items > li").first.get_by_role("button", name="Why").click()
    expect(tab.locator("#folded .because:visible")).to_contain_text("together")


def test_two_bundles_side_by_side(open_page, pages) -> None:
    both = pages["pair"].recommender, *pages["pair"].others
    tab = open_page("pair")
    tab.get_by_role("tab", name="Compare").click()

    def check(user: int, k: int) -> None:
        lists = [one.recommend(user, k).item_ids.tolist() for one in both]
        shared = set(lists[0]) & set(lists[1])
        expect(tab.locator("#compared .overlap")).to_have_text(f"In both lists: {len(shared)} of {k}")
        for place, (own, other, letter) in enumerate(((*lists, "B"), (*lists[::-1], "A"))):
            part = tab.locator("#compared .pair > div").nth(place)
            expect(titles(part, ":scope")).to_have_text(names(pages["pair"], both[0].items.ids.lookup(own)))
            marks = [f"no. {other.index(item) + 1} in {letter}" for item in own if item in shared]
            expect(part.locator(".chip", has_text="no. ")).to_have_text(marks)

    check(10, 10)
    box = tab.locator("#compare-query textarea, #compare-query input").first
    box.fill("250")
    box.press("Enter")
    check(250, 10)
    tab.locator("#compare-k input[type=number]").fill("4")
    check(250, 4)
    expect(tab.locator("#comparison")).to_contain_text("A ranks 54 % better")
    box.fill("<b>nobody")
    box.press("Enter")
    expect(tab.locator("#compare-note")).to_contain_text("No user id contains “<b>nobody”")
    expect(tab.locator("#compared h2").first).to_contain_text("the average user's list")


@pytest.mark.slow
def test_variety_is_chosen_linked_and_kept_within_its_range(open_page, pages) -> None:
    served = pages["dot-bias"]
    recommender = served.recommender
    tab = open_page("dot-bias", permissions=["clipboard-read", "clipboard-write"])
    tab.get_by_role("button", name="Options").click()
    tab.locator("#diversity input[type=number]").fill("99")
    variety = Variety(diversity=1)
    expect(titles(tab)).to_have_text(names(served, recommender.recommend(10, variety=variety).item_indices))
    tab.locator("#diversity input[type=number]").fill("0.6")
    tab.locator("#surprise input[type=number]").fill("-0.5")
    tab.locator("#max-per-category input").click()
    tab.get_by_role("option", name="2", exact=True).click()
    variety = Variety(diversity=0.6, surprise=-0.5, max_per_category=2)
    wanted = names(served, recommender.recommend(10, variety=variety).item_indices)
    expect(titles(tab)).to_have_text(wanted)
    tab.get_by_role("button", name="Copy link").click()
    expect(tab.get_by_role("button", name="Copied")).to_be_visible()
    link = tab.evaluate("navigator.clipboard.readText()")
    assert link == f"{served.url}/?user=10&tab=user&k=10&diversity=0.6&surprise=-0.5&max_per_category=2"
    tab.goto(link)
    expect(titles(tab)).to_have_text(wanted)
    # What a new user sees.
    tab.get_by_role("tab", name="New here").click()
    tab.locator("#folded .items > li").first.locator("[data-value='5']").click()
    expect(tab.locator("#folded h2")).to_have_text("From your 1 rating")
    rated = tab.locator("#rated [data-item]").first.get_attribute("data-item")
    item_id = recommender.items[int(rated)].item_id
    tab.locator("#mine-options").get_by_role("button", name="Options").click()
    tab.locator("#mine-surprise input[type=number]").fill("1")
    found = recommender.fold_in([item_id], [5.0], variety=Variety(surprise=1))
    expect(titles(tab, "#folded")).to_have_text(names(served, found.item_indices))
    tab.get_by_role("tab", name="Answer questions").click()
    tab.locator("#questions-options").get_by_role("button", name="Options").click()
    found = Profiles.of(recommender).recommend(None, variety=Variety(diversity=0.8))
    wanted = names(served, found.item_indices)

    weight = tab.locator("#questions-diversity input[type=number]")
    weight.click()  # waits until it takes input
    weight.fill("0.8")
    expect(titles(tab, "#answered")).to_have_text(wanted)


def test_nothing_is_entered_before_gradio_has_set_its_first_values(open_tab, pages) -> None:
    """With frames that come late, as on a busy machine, what is entered at once stays."""
    served = pages["dot-bias"]
    tab = open_tab(f"{served.url}/")
    tab.add_init_script(LATE_FRAMES)
    tab.reload()
    expect(tab.locator("#picks .items li").first).to_be_visible()
    tab.get_by_role("button", name="Options").first.click()
    for where in ("#k", "#questions-k"):
        if where == "#questions-k":
            tab.get_by_role("tab", name="New here").click()
            tab.get_by_role("tab", name="Answer questions").click()
            tab.locator("#questions-options").get_by_role("button", name="Options").click()
        box = tab.locator(f"{where} input[type=number]")
        box.click()
        box.press("ControlOrMeta+a")
        box.press_sequentially("3")
        tab.wait_for_timeout(3 * LATE_MS)
        expect(box).to_have_value("3")
    expect(tab.locator("#picks li")).to_have_count(3)
    expect(tab.locator("#answered .items.wide li")).to_have_count(3)


@pytest.mark.slow
def test_a_list_that_was_scrolled_stays_there_and_the_keyboard_goes_on(open_page) -> None:
    tab = open_page("dot-bias", viewport=PHONE)
    tab.get_by_role("tab", name="New here").click()
    tab.get_by_role("tab", name="Answer questions").click()
    questions = tab.locator("#questions .items")
    button = questions.locator("> li").last.get_by_text("Dislike", exact=True)
    button.focus()
    before = questions.evaluate("list => list.scrollTop")
    assert before > 0
    tab.keyboard.press("Enter")
    expect(button).to_have_attribute("aria-pressed", "true")
    expect(button).to_be_focused()
    assert questions.evaluate("list => list.scrollTop") == before
    box = tab.locator("#answered .items.wide li").first.bounding_box()
    assert box["y"] + tab.evaluate("scrollY") < PHONE["height"] + 100  # a result below the questions


LATE_MS = 500
LATE_FRAMES = f"""const frame = window.requestAnimationFrame.bind(window);
window.requestAnimationFrame = (call) => setTimeout(() => frame(call), {LATE_MS});"""


def test_a_rating_that_comes_before_the_kept_ones_are_read_loses_none(open_page, pages) -> None:
    """The browser sends the events of the page's start late, after a star has been pressed."""
    served = pages["dot-bias"]
    tab = open_page("dot-bias")

    def press(place: int, n: int) -> None:
        tab.locator("#folded .items > li").nth(place).locator("[data-value='5']").click()
        expect(tab.locator("#folded h2")).to_have_text(f"From your {n} rating{'s' if n > 1 else ''}")

    tab.get_by_role("tab", name="New here").click()
    press(0, 1)
    press(1, 2)
    held: list[Any] = []
    joins = f"{served.url}/gradio_api/queue/join*"
    tab.route(joins, lambda call: held.append(call))
    tab.reload()
    tab.get_by_role("tab", name="New here").click()
    expect(tab.locator("#folded h2")).to_have_text("Which of these have you seen?")
    wait_in_tab(tab, lambda: len(held), lambda n: n >= 2)
    tab.wait_for_timeout(300)
    tab.unroute(joins)
    press(2, 3)
    for call in held:
        call.continue_()
    expect(tab.locator("#rated li")).to_have_count(3)
    tab.wait_for_timeout(500)
    tab.reload()
    tab.get_by_role("tab", name="New here").click()
    expect(tab.locator("#folded h2")).to_have_text("From your 3 ratings")


@pytest.mark.slow
def test_a_link_carries_every_option(open_page, pages) -> None:
    served = pages["dot-bias"]
    tab = open_page("dot-bias")
    tab.goto(f"{served.url}/?user=250&k=6&genre=drama&from=1955&to=1980&known=less&rated=listed")
    expect(tab.locator("#picks h2")).to_have_text("For user 250")
    link = "?user=250&tab=user&k=6&genre=Drama&from=1955&to=1980&known=less&rated=listed"
    expect(tab.locator("#picks [data-act=link]")).to_have_attribute("data-link", link)
    tab.get_by_role("button", name="Options").click()
    expect(tab.locator("#first-year input")).to_have_value("1955")
    expect(tab.get_by_label("Leave out what they have rated")).not_to_be_checked()


ADDRESSES = [
    ("user=250&tab=user&k=3", "Pick a user", "#picks h2", "For user 250"),
    ("tab=similar&item=1013", "Similar items", "#neighbours .chosen", "The Movie 13"),
    (f"user={quote(HOSTILE)}&tab=x&k=1e9&genre=<b>", "Pick a user", "#user-note", "A list has 1 to 50"),
]
MORE_ADDRESSES = [
    ("tab=map", "Map", "#map", "Factor map"),
    ("tab=similar&item=77", "Similar items", "#similar-note", "No item has the id “77”"),
    ("user=77", "Pick a user", "#user-note", "No user has the id “77”"),
    ("diversity=2&surprise=nan&max_per_category=x&known=y", "Pick a user", "#user-note", "not “nan”"),
    ("from=1980&to=1960", "Pick a user", "#user-note", "No item lies between 1980 and 1960"),
    ("tab=compare", "Pick a user", "#user-note", "There is no tab “compare”"),
    ("tab=user&k=-1&user=&genre=", "Pick a user", "#user-note", "No item has the genre “”"),
]


@pytest.mark.parametrize(
    ("query", "selected", "where", "said"),
    [*ADDRESSES, *(pytest.param(*address, marks=pytest.mark.slow) for address in MORE_ADDRESSES)],
)
def test_addresses_lead_to_a_tab_and_a_list(open_tab, pages, query, selected, where, said) -> None:
    tab = open_tab(f"{pages['dot-bias'].url}/")
    tab.goto(f"{pages['dot-bias'].url}/?{query}")
    expect(tab.locator(where)).to_contain_text(said)
    expect(tab.get_by_role("tab", name=selected)).to_have_attribute("aria-selected", "true")
    assert tab.locator("img[src=x], .notice b").count() == 0
    assert tab.title() == "tiny: dot-bias"


@pytest.mark.slow
def test_on_a_phone_results_are_seen_without_scrolling(open_page) -> None:
    tab = open_page("dot-bias", viewport=PHONE)
    for place in range(3):
        box = tab.locator("#picks li").nth(place).bounding_box()
        assert box["y"] + box["height"] <= PHONE["height"]
    heights = tab.locator("#picks .name").evaluate_all("all => all.map(e => e.offsetHeight)")
    assert max(heights) < 30  # one line


def test_own_ratings_are_uploaded_and_what_did_not_match_is_listed(open_page, pages, tmp_path) -> None:
    served = pages["dot-bias"]
    recommender = served.recommender
    tab = open_page("dot-bias")
    tab.get_by_role("tab", name="New here").click()
    (tmp_path / "imdb.csv").write_text(
        "Const,Your Rating,Title,Year\n"
        "tt1,10,The Movie 13,1963\ntt2,1,The Movie 3,1953\ntt3,5,<b>No such film</b>,2030\n"
    )
    tab.locator("#upload input").set_input_files(tmp_path / "imdb.csv")
    expect(tab.locator("#upload-note")).to_contain_text("2 ratings read, 1 left out")
    tab.locator("#upload-note summary").click()
    expect(tab.locator("#upload-note li")).to_contain_text("line 4: Title '<b>No such film</b>'")
    assert tab.locator("#upload-note b").count() == 0
    low, high = recommender.manifest.data.ratings_range
    wanted = recommender.fold_in([1013, 1003], [high, low])
    expect(titles(tab, "#folded")).to_have_text(names(served, wanted.item_indices))
    for content, said in (
        (b"", "Not read:"),
        (b"a,b\n1,2\n", "no column of"),
        (b"x" * 700_001, "at most 700000"),
    ):
        (tmp_path / "other.csv").write_bytes(content)
        tab.locator("#upload input").set_input_files(tmp_path / "other.csv")
        expect(tab.locator("#upload-note, #upload [data-said]").filter(has_text=said)).to_be_visible()
    expect(tab.locator("#folded h2")).to_have_text("From your 2 ratings")


@pytest.mark.slow
def test_rate_leads_to_ones_own_ratings(open_page, pages) -> None:
    served = pages["dot-bias"]
    tab = open_page("dot-bias")
    best = served.recommender.recommend(10, 1)
    tab.locator("#picks li").first.get_by_role("button", name="Rate").click()
    expect(titles(tab, "#rate-found")).to_have_text(names(served, best.item_indices))
    tab.locator("#rate-found [data-value='4']").click()
    expect(tab.locator("#folded h2")).to_have_text("From your 1 rating")


@pytest.mark.slow
def test_years_and_popularity_are_chosen_and_impossible_years_brought_back(open_page, pages) -> None:
    served = pages["dot-bias"]
    tab = open_page("dot-bias")
    tab.get_by_role("button", name="Options").click()
    ranked = served.recommender.recommend(10, 50).item_indices
    known = tab.locator("#known input")
    usual = known.input_value()
    for band in ("Well known", usual):
        known.click()
        tab.get_by_role("option", name=band).click()
        if band == usual:
            expect(titles(tab)).to_have_text(names(served, ranked[:10]))
        else:
            expect(titles(tab)).not_to_have_text(names(served, ranked[:10]))
    first, last = tab.locator("#first-year input"), tab.locator("#last-year input")
    years = [year for year in served.recommender.items.years if year is not None]
    for given, wanted in (("99999", max(years)), ("-7", min(years)), ("1960", 1960)):
        first.fill(given)
        first.press("Enter")
        expect(first).to_have_value(str(wanted))
    last.fill("1965")
    last.press("Enter")
    items = served.recommender.items
    between = [index for index in ranked if index and 1960 <= (items[int(index)].year or 0) <= 1965]
    expect(titles(tab)).to_have_text(names(served, between[:10]))
    last.fill("")
    last.press("Enter")
    first.fill("")
    first.press("Enter")
    expect(titles(tab)).to_have_text(names(served, ranked[:10]))


BOXES = """all => all.map(e => e.getBoundingClientRect())
    .map(({ left, top, right, bottom }) => [left, top, right, bottom])"""


@pytest.mark.slow
def test_the_map_is_searched_and_zoomed(open_page, pages) -> None:
    tab = open_page("dot-bias", viewport=PHONE)
    tab.get_by_role("tab", name="Map").click()
    drawing, said = tab.locator("#map svg"), tab.locator("#map [data-said]")

    def check_labels() -> None:
        """At least three, within the map, none over another; each is the title of a point."""
        boxes = tab.locator("#map svg text").evaluate_all(BOXES)
        assert len(boxes) >= 3
        frame = drawing.bounding_box()
        for place, (left, top, right, bottom) in enumerate(boxes):
            assert left >= frame["x"]
            assert right <= frame["x"] + frame["width"]
            for other in boxes[:place]:
                assert right <= other[0] or other[2] <= left or bottom <= other[1] or other[3] <= top

    expect(drawing).to_have_attribute("viewBox", "0 0 900 960")
    check_labels()
    tab.get_by_role("button", name="Zoom in").click()
    check_labels()
    expect(drawing).to_have_attribute("viewBox", "168.75 180 562.5 600")
    for _ in range(20):
        tab.get_by_role("button", name="Zoom in").click()
    expect(drawing).to_have_attribute("viewBox", "412.5 440 75 80")
    tab.get_by_role("button", name="All").click()
    expect(drawing).to_have_attribute("viewBox", "0 0 900 960")
    box = tab.get_by_role("searchbox", name="Find on the map")
    box.fill("movié 13 ")
    expect(said).to_have_text(f"The Movie 13 (1963): {n_raters(pages['dot-bias'], 13)} ratings")
    assert tab.locator("#map g.hit").count() == 1
    box.press("Enter")
    expect(drawing).to_have_class(re.compile(r"\bzoomed\b"))
    tab.get_by_role("tab", name="Model").click()  # and back: the map is as it was left
    expect(tab.locator("#card")).to_contain_text("Parity with torch")
    tab.get_by_role("tab", name="Map").click()
    expect(drawing).to_have_class(re.compile(r"\bzoomed\b"))
    box.fill("no such film")
    expect(said).to_have_text("Nothing on the map is called so.")
    box.fill("")
    expect(said).to_have_text("")
    tab.get_by_role("button", name="All").click()
    tab.locator("#map use").last.click(force=True)  # a tap on a point says its title
    expect(said).to_contain_text("ratings")


def n_raters(served: Any, item_index: int) -> int:
    seen = served.recommender.seen
    return sum(item_index in seen.of_user(user) for user in range(1, 31))
