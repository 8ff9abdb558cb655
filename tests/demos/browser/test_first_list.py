"""What a browser loads before the first list, in a real Chromium."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.sync_api import expect

# File name -> bytes as they came, of the page itself and all that it loaded.
LOADED = """() => Object.fromEntries(
    ["navigation", "resource"].flatMap(type => performance.getEntriesByType(type))
        .filter(entry => entry.name.startsWith("http"))
        .map(entry => [entry.name.split("/").at(-1), entry.encodedBodySize]))"""


def graphs(loaded: dict[str, Any]) -> list[str]:
    return [name for name in loaded if ".onnx" in name]


def test_the_first_list_loads_its_own_graph_only(open_page, page_of) -> None:
    page = page_of("dot")
    tab = open_page(page)
    loaded = tab.evaluate(LOADED)
    assert graphs(loaded) == ["recommend_filtered.onnx.gzipped"]
    assert sum(loaded.values()) == page.first_list_bytes
    tab.locator("#suggestions button").first.click()
    expect(tab.locator("#basis")).to_contain_text("From your 1 rating")
    assert graphs(tab.evaluate(LOADED)) == [
        "recommend_filtered.onnx.gzipped",
        "fold_in_filtered.onnx.gzipped",
    ]


@pytest.mark.slow  # trains and exports
def test_the_first_list_of_the_embedded_data_takes_less_than_6_mb(open_page, serve_page, tmp_path) -> None:
    """As `make demo-browser` makes the bundle; iterations change no shape of a table."""
    # Here, for the tests above run where torch is not installed.
    from export.write.bundle import export_run
    from recsys.data import load
    from recsys.training.settings import new_settings
    from recsys.training.train import Machine, train

    settings = new_settings(None, {"iterations": 2, "burn_in": 1})
    train(load("ml-latest-small"), settings, tmp_path / "run", machine=Machine("cpu"))
    export_run(tmp_path / "run", tmp_path / "bundle", precision="int8", filtered=True, variety=True)
    page = serve_page(tmp_path / "bundle")
    loaded = open_page(page).evaluate(LOADED)
    assert sum(loaded.values()) == page.first_list_bytes < 6_000_000, loaded


def test_a_list_is_told_by_its_own_ratings_while_the_next_one_is_awaited(open_page, page_of) -> None:
    tab = open_page(page_of("parts"))
    held: list[Any] = []
    tab.route("**/fold_in*.onnx.gzipped", lambda call: held.append(call))
    tab.locator("#suggestions button").first.click()
    expect(tab.locator("#basis")).to_have_text("Loading what answers to ratings…")
    tab.locator("#k").select_option("10")
    expect(tab.locator("#basis")).to_contain_text("Nothing rated yet")
    expect(tab.locator("#list li")).to_have_count(10)
    for call in held:
        call.continue_()
    expect(tab.locator("#basis")).to_contain_text("From your 1 rating.")
