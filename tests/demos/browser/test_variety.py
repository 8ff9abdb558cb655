"""Lists of the page in an order by the controls of variety, in a real Chromium."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fixture_bundles import edit_manifest
from playwright.sync_api import expect
from runtimes_table import BUNDLES, WITH_SHARDS

from serve import Recommender, Rules, Variety
from serve.bundle.titles import displayed
from serve.runtime.batching import Top
from serve.runtime.variety import rerank

N_SHOWN = 20
DIVERSE, SURPRISING, LIMIT = "#diversity", "#surprise", "#most"


def titles(served: Recommender, indices: np.ndarray) -> list[str]:
    return [displayed(served.items.label(index)) for index in indices.tolist() if index][:N_SHOWN]


def shows(tab: Any, served: Recommender, indices: np.ndarray) -> None:
    expect(tab.locator("#list .title")).to_have_text(titles(served, indices))


def test_lists_are_those_of_the_recommender(open_page, page_of) -> None:
    page = page_of("parts")
    served = Recommender.load(BUNDLES["parts"], "cpu")
    tab = open_page(page)
    shows(tab, served, served.recommend(11, N_SHOWN).item_indices)
    asked = page.requests.count("/bundle/variety.onnx.gzipped")
    tab.locator(DIVERSE).fill("0.6")
    shows(tab, served, served.recommend(11, N_SHOWN, variety=Variety(diversity=0.6)).item_indices)
    expect(tab.locator("#basis")).to_contain_text("Varied as you asked.")
    tab.locator(SURPRISING).fill("-0.25")
    tab.locator(LIMIT).select_option("2")
    variety = Variety(diversity=0.6, surprise=-0.25, max_per_category=2)
    shows(tab, served, served.recommend(11, N_SHOWN, variety=variety).item_indices)
    tab.locator("#genre").select_option("Drama")
    dramas = Rules(categories=["Drama"])
    shows(tab, served, served.recommend(11, N_SHOWN, rules=dramas, variety=variety).item_indices)
    tab.locator("#genre").select_option("")
    tab.locator("#suggestions button").first.click()
    expect(tab.locator("#basis")).to_contain_text("From your 1 rating.")
    rated = served.items.search(tab.locator("#rated .title").inner_text())[0]
    found = served.fold_in([served.items[rated].item_id], [4.0], N_SHOWN, variety=variety)
    shows(tab, served, found.item_indices)
    # Nothing else can be entered.
    tab.locator(DIVERSE).evaluate("slider => { slider.value = 7; slider.dispatchEvent(new Event('input')) }")
    variety = Variety(diversity=1.0, surprise=-0.25, max_per_category=2)
    found = served.fold_in([served.items[rated].item_id], [4.0], N_SHOWN, variety=variety)
    shows(tab, served, found.item_indices)
    for control in (DIVERSE, SURPRISING):
        tab.locator(control).fill("0")
    tab.locator(LIMIT).select_option("0")
    shows(tab, served, served.fold_in([served.items[rated].item_id], [4.0], N_SHOWN).item_indices)
    expect(tab.locator("#basis")).not_to_contain_text("Varied")
    assert page.requests.count("/bundle/variety.onnx.gzipped") == asked + 1


@pytest.mark.slow
def test_without_graphs_with_rules_the_items_of_a_genre_are_varied(open_page, serve_page, tmp_path) -> None:
    bundle = Path(shutil.copytree(BUNDLES["dot"], tmp_path / "bundle"))
    filtered = ("recommend_filtered", "fold_in_filtered")

    def change(manifest: dict[str, Any]) -> None:
        manifest["item_rules"] = None
        for name in filtered:
            del manifest["graphs"][name]
        for table in manifest["tables"]:
            table["graphs"] = [name for name in table["graphs"] if name not in filtered]
        manifest["tables"] = [table for table in manifest["tables"] if table["graphs"]]
        for name in filtered:
            del manifest["files"][f"{name}.onnx"]

    for name in filtered:
        (bundle / f"{name}.onnx").unlink()
    edit_manifest(bundle, change)
    served = Recommender.load(bundle, "cpu")
    tab = open_page(serve_page(bundle))
    tab.locator("#genre").select_option("Drama")
    tab.locator(DIVERSE).fill("0.5")
    top = served.rank(np.array([0]), 50)
    kept = np.array([["Drama" in served.items[index].genres for index in top.indices[0].tolist()]])
    order = np.argsort(~kept, axis=1, kind="stable")
    kept = np.take_along_axis(kept, order, axis=1)
    indices, scores = (np.take_along_axis(one, order, axis=1) for one in (top.indices, top.scores))
    dramas = Top(np.where(kept, indices, 0), np.where(kept, scores, np.float32(-1e30)), None, "recommend")
    shows(tab, served, rerank(dramas, 50, Variety(diversity=0.5), served).indices[0])


@pytest.mark.slow  # builds the page of another bundle
def test_there_are_controls_only_where_they_have_a_graph(open_page, page_of) -> None:
    tab = open_page(page_of("parts"))
    expect(tab.locator("#variety")).to_be_visible()
    shards = "parts-int8-shards"
    assert "variety" not in Recommender.load(WITH_SHARDS[shards], "cpu").manifest.graphs
    expect(open_page(page_of(shards)).locator("#variety")).to_be_hidden()
