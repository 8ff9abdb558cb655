"""Why an item is in the page's list, in a real Chromium."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from fixture_bundles import edit_manifest
from playwright.sync_api import expect
from runtimes_table import BUNDLES

from serve import Recommender
from serve.bundle.ids import write_items
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


def test_titles_of_one_long_word_stay_within_the_page(open_page, serve_page, tmp_path: Path) -> None:
    bundle = Path(shutil.copytree(BUNDLES["parts"], tmp_path / "bundle"))
    known = Recommender.load(bundle, "cpu").items
    items = [known[index] for index in range(1, 51)]
    (bundle / "items.parquet").unlink()
    write_items(
        bundle / "items.parquet",
        [item.item_id for item in items],
        titles=[f"{'T' * 600}{item.item_id}" for item in items],
        genres=["|".join(item.genres) for item in items],
        years=[item.year for item in items],
    )
    edit_manifest(bundle)
    tab = open_page(serve_page(bundle))
    tab.locator("#suggestions button").first.click()
    tab.locator("#list .why").first.click()
    expect(tab.locator("#list .reasons")).to_contain_text(re.compile("Because|None"))
    tab.locator("#query").fill("T")
    expect(tab.locator("#results button").first).to_be_visible()
    page = "document.documentElement"
    assert tab.evaluate(f"{page}.scrollWidth <= {page}.clientWidth")
