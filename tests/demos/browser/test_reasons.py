"""Why an item is in the page's list, in a real Chromium."""

from __future__ import annotations

from playwright.sync_api import expect
from runtimes_table import BUNDLES

from serve import Recommender
from serve.bundle.titles import displayed


def test_reasons_are_those_of_the_recommender(open_page, page_of) -> None:
    page = page_of("parts")
    served = Recommender.load(BUNDLES["parts"], "cpu")
    tab = open_page(page)
    why = tab.get_by_role("button", name="Why ")
    expect(why).to_have_count(0)  # the average user has rated nothing
    asked = page.requests.count("/bundle/explain.onnx.gzipped")
    for _ in range(4):
        tab.locator("#suggestions button").first.click()
    expect(tab.locator("#basis")).to_contain_text("From your 4 ratings.")
    rated = [served.items.search(title)[0] for title in tab.locator("#rated .title").all_inner_texts()][::-1]
    ids = [served.items[index].item_id for index in rated]
    found = served.fold_in(ids, [4.0] * 4, 10, reasons=True)
    assert found.reasons is not None
    said = [list(found.reasons.of(place)) for place in range(10)]
    assert len({len(one) for one in said}) > 1
    for place, reasons in enumerate(said):
        row = tab.locator("#list li").nth(place)
        row.get_by_role("button", name="Why ").click()
        named = ", ".join(f"{displayed(one.title)} ({one.rating:g} ★)" for one in reasons)
        wanted = f"Because you rated {named}." if reasons else "None of your ratings speaks for it."
        expect(row.locator(".reasons")).to_have_text(wanted)
    assert page.requests.count("/bundle/explain.onnx.gzipped") == asked + 1
    why.first.click()
    expect(tab.locator("#list .reasons")).to_have_count(9)
    expect(why.first).to_have_attribute("aria-expanded", "false")


def test_a_bundle_without_reasons_has_no_such_buttons(open_page, page_of) -> None:
    tab = open_page(page_of("mlp"))
    tab.locator("#suggestions button").first.click()
    expect(tab.locator("#basis")).to_contain_text("can't take in")
    expect(tab.get_by_role("button", name="Why ")).to_have_count(0)
    expect(tab.get_by_role("button", name="Similar to").first).to_be_visible()
