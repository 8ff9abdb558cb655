"""Lists of the page by years and by how well known items are, in a real Chromium."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.sync_api import expect
from runtimes_table import BUNDLES, WITH_SHARDS

from demos.report.popularity import popularity_bands
from serve import Ranking, Recommender, Rules
from serve.bundle.titles import displayed

N_SHOWN = 20
FIRST, LAST, KNOWN = "#first-year", "#last-year", "#popularity"


def shows(tab: Any, served: Recommender, found: Ranking) -> None:
    titles = [displayed(served.items.label(index)) for index in found.item_indices.tolist() if index]
    expect(tab.locator("#list .title")).to_have_text(titles[:N_SHOWN])


def enter(tab: Any, control: str, text: str) -> None:
    tab.locator(control).fill(text)
    tab.locator(control).press("Tab")


def test_lists_are_those_of_the_recommender(open_page, page_of) -> None:
    served = Recommender.load(BUNDLES["parts"], "cpu")
    average = 11  # an id that nobody has
    tab = open_page(page_of("parts"))
    years = [served.items[index].year for index in range(1, 51) if served.items[index].year]
    expect(tab.locator(FIRST)).to_have_value(str(min(years)))
    enter(tab, FIRST, "1960")
    shows(tab, served, served.recommend(average, 50, rules=Rules(min_year=1960)))
    enter(tab, LAST, "1980")
    between = {"min_year": 1960, "max_year": 1980}
    shows(tab, served, served.recommend(average, 50, rules=Rules(**between)))
    bands = popularity_bands(served.bundle.table("item_n_ratings")[0].astype(int))
    expect(tab.locator(f"{KNOWN} option")).to_have_text(list(bands))
    name, (fewest, most) = list(bands.items())[-1]
    tab.locator(KNOWN).select_option(name)
    rules = Rules(min_ratings=fewest, max_ratings=most, **between)
    shows(tab, served, served.recommend(average, 50, rules=rules))
    tab.locator("#suggestions button").first.click()
    expect(tab.locator("#basis")).to_contain_text("From your 1 rating.")
    rated = served.items.search(tab.locator("#rated .title").inner_text())[0]
    shows(tab, served, served.fold_in([served.items[rated].item_id], [4.0], 50, rules=rules))
    tab.locator("#genre").select_option("Drama")
    rules = Rules(categories=["Drama"], min_ratings=fewest, max_ratings=most, **between)
    shows(tab, served, served.fold_in([served.items[rated].item_id], [4.0], 50, rules=rules))


@pytest.mark.parametrize(
    ("control", "given", "first", "last"),
    [
        (FIRST, "3000", "2000", "2000"),
        (FIRST, "", "1951", "2000"),
        (LAST, "-5", "1951", "1951"),
        (LAST, "1960.7", "1951", "1961"),
    ],
)
def test_years_outside_of_the_data_are_brought_into_them(
    open_page, page_of, control, given, first, last
) -> None:
    tab = open_page(page_of("parts"))
    enter(tab, control, given)
    expect(tab.locator(FIRST)).to_have_value(first)
    expect(tab.locator(LAST)).to_have_value(last)


def test_where_no_item_is_left_the_page_says_so(open_page, page_of) -> None:
    tab = open_page(page_of("parts"))
    enter(tab, FIRST, "1957")
    enter(tab, LAST, "1957")  # a year that no item has
    expect(tab.locator("#few")).to_have_text("No item is like that, of those that you have not rated.")
    expect(tab.locator("#list li")).to_have_count(0)
    enter(tab, LAST, "1958")
    expect(tab.locator("#list .title")).to_have_text(["The Movie 8 (1958)"])
    expect(tab.locator("#few")).to_have_text("")


def test_there_are_controls_only_where_they_have_graphs(open_page, page_of) -> None:
    expect(open_page(page_of("parts")).locator("#rules")).to_be_visible()
    shards = "parts-int8-shards"
    assert Recommender.load(WITH_SHARDS[shards], "cpu").manifest.item_rules is None
    expect(open_page(page_of(shards)).locator("#rules")).to_be_hidden()
