"""The page in a real Chromium: what a person does with it, the network cut, hostile titles, a phone, axe."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import msgspec
import pytest
from fixture_bundles import edit_manifest
from playwright.sync_api import expect
from runtimes_table import BUNDLES, WITH_SHARDS
from tabs import HOSTILE, PACKAGES, PHONE, findings, picture, wait_for_list

from demos.browser.build import build
from serve import Recommender, Rules
from serve.bundle.ids import write_items
from serve.bundle.titles import displayed
from serve.errors import OutputError, UnsupportedError

N_SHOWN = 20


def rate(tab: Any, title: str, stars: int) -> None:
    tab.get_by_label("Search a title").fill(title)
    tab.locator("#results").get_by_role("button", name=title, exact=True).click()
    tab.get_by_role("group", name=f"Rate {title}").locator("label").nth(stars - 1).click()


def label(served: Recommender, index: int) -> str:
    return displayed(served.items.label(int(index)))


def expected(served: Recommender, ranking: Any) -> list[tuple[str, float]]:
    return [
        (label(served, index), rating)
        for index, rating in zip(ranking.item_indices.tolist(), ranking.ratings.tolist(), strict=True)
        if index  # the tail of a list that ran out of items is 0
    ][:N_SHOWN]


def check_list(tab: Any, wanted: list[tuple[str, float]]) -> None:
    """The page shows this list; made-up weights have no near ties, so the order is strict."""
    wait_for_list(tab.locator("#list li"), ".title", ".score", wanted)


def check_average(tab: Any, model: str = "dot") -> None:
    served = Recommender.load(WITH_SHARDS[model], "cpu")
    check_list(tab, expected(served, served.recommend("nobody" if served.users.is_string else 11, N_SHOWN)))
    expect(tab.locator("#basis")).to_contain_text("the average user")


@pytest.mark.parametrize(
    "model",
    [
        pytest.param("dot", marks=pytest.mark.slow),
        pytest.param("dot-bias, string ids", marks=pytest.mark.slow),
        "parts",
        pytest.param("parts-int8-shards", marks=pytest.mark.slow),
    ],
)
def test_ratings_are_folded_in_with_the_network_cut(open_page, page_of, model) -> None:
    page = page_of(model)
    served = Recommender.load(WITH_SHARDS[model], "cpu")
    tab = open_page(page)

    def check_folded(given: dict[int, float]) -> None:
        expect(tab.locator("#basis")).to_contain_text(f"From your {len(given)} ratings")
        ids = [served.items.ids.one_id(index) for index in given]
        check_list(tab, expected(served, served.fold_in(ids, list(given.values()), N_SHOWN)))

    check_average(tab, model)
    rate(tab, label(served, 3), 5)
    expect(tab.locator("#basis")).to_contain_text("From your 1 rating")
    tab.context.set_offline(True)
    asked = len(page.requests)
    for index, stars in {17: 1, 41: 4}.items():
        rate(tab, label(served, index), stars)
    check_folded({3: 5.0, 17: 1.0, 41: 4.0})
    expect(tab.locator("#runtime")).to_contain_text("WebAssembly")
    rate(tab, label(served, 17), 5)
    check_folded({3: 5.0, 17: 5.0, 41: 4.0})
    tab.get_by_role("button", name=f"Remove {label(served, 17)}").click()
    check_folded({3: 5.0, 41: 4.0})
    tab.get_by_role("button", name="Forget all ratings").click()
    check_average(tab, model)
    assert len(page.requests) == asked


@pytest.mark.slow
def test_a_list_without_ratings_shows_no_stars(open_page, page_of) -> None:
    """A bar says how far an item is below the best one; the score has no scale to be drawn on."""
    served = Recommender.load(BUNDLES["ranking"], "cpu")
    tab = open_page(page_of("ranking"))
    rate(tab, label(served, 3), 5)
    expect(tab.locator("#basis")).to_have_text(
        "From your 1 rating. The bar is longer for what suits you better."
    )
    wanted = served.fold_in([served.items[3].item_id], [5.0], N_SHOWN)
    titles = [label(served, index) for index in wanted.item_indices]
    expect(tab.locator("#list .title")).to_have_text(titles)
    expect(tab.locator("#list .rating")).to_have_count(0)
    expect(tab.locator("#list .score")).to_have_text([""] * N_SHOWN)
    bars = [float(bar.get_attribute("value")) for bar in tab.locator("#list meter").all()]
    below = (wanted.scores[0] - wanted.scores) / served.manifest.model.list_span
    assert bars == pytest.approx((1 - below).tolist(), abs=1e-5)


@pytest.mark.slow
def test_where_all_ratings_are_equal_there_is_one_star(open_page, serve_page, tmp_path) -> None:
    bundle = Path(shutil.copytree(BUNDLES["ranking"], tmp_path / "bundle"))
    edit_manifest(bundle, lambda manifest: manifest["data"].update(ratings_range=[1.0, 1.0]))
    tab = open_page(serve_page(bundle))
    served = Recommender.load(bundle, "cpu")
    title = label(served, 3)
    rate(tab, title, 1)
    expect(tab.get_by_role("group", name=f"Rate {title}").get_by_role("radio")).to_have_count(1)
    wanted = served.fold_in([served.items[3].item_id], [1.0], N_SHOWN)
    titles = [label(served, index) for index in wanted.item_indices]
    expect(tab.locator("#list .title")).to_have_text(titles)


@pytest.mark.slow
def test_a_model_without_fold_in_says_so_and_leaves_out_what_was_rated(open_page, page_of) -> None:
    served = Recommender.load(BUNDLES["mlp"], "cpu")
    tab = open_page(page_of("mlp"))
    best = served.recommend(11, 3)
    rate(tab, label(served, best.item_indices[0]), 2)
    expect(tab.locator("#basis")).to_contain_text("This model (mlp) can't take in a new user's ratings")
    wanted = served.recommend(11, N_SHOWN, exclude_item_ids=[best.item_ids[0]])
    check_list(tab, expected(served, wanted))


def test_searching(open_page, page_of) -> None:
    tab = open_page(page_of("dot"))
    box, found = tab.get_by_label("Search a title"), tab.locator("#found")
    box.fill("MOVIE the 1963")
    expect(found).to_have_text("1 found")
    expect(tab.locator("#results button")).to_have_text(["The Movie 13 (1963)"])
    box.fill("movie")
    expect(found).to_have_text("8 of 50 found")
    box.fill("   ")
    expect(found).to_have_text("")
    expect(tab.locator("#results button")).to_have_count(0)
    expect(tab.get_by_role("heading", name="Well known")).to_be_visible()
    for hostile in ("<img src=x onerror=alert(1)>", "(?:", "\\", "a" * 5000, "‮日本"):
        box.fill(hostile)
        expect(found).to_contain_text("No title has")
    box.fill("teh moive 13")
    expect(found).to_have_text("No title has “teh moive 13”. The nearest:")
    expect(tab.locator("#results button").first).to_have_text("The Movie 13 (1963)")
    box.fill("zzzzzz qqqqq")
    expect(tab.locator("#results button")).to_have_count(0)
    expect(tab.locator("#error")).to_be_hidden()


@pytest.mark.slow
def test_similar_items_and_back(open_page, page_of) -> None:
    tab = open_page(page_of("parts"))
    served = Recommender.load(BUNDLES["parts"], "cpu")
    ranking = served.recommend(11, N_SHOWN)
    check_list(tab, expected(served, ranking))
    index = int(ranking.item_indices[1])
    for _ in range(2):  # from a list, and from neighbours to theirs
        title = label(served, index)
        tab.get_by_role("button", name=f"Similar to {title}", exact=True).click()
        expect(tab.locator("#basis")).to_contain_text(f"Most like {title}")
        near = served.similar_items(served.items[index].item_id, N_SHOWN)
        wanted = [
            (label(served, one), score) for one, score in zip(near.item_indices, near.scores, strict=True)
        ]
        check_list(tab, wanted)
        expect(tab.locator("#back")).to_be_focused()
        index = int(near.item_indices[0])
    tab.keyboard.press("Enter")
    check_list(tab, expected(served, ranking))
    expect(tab.locator("#back")).to_be_hidden()
    tab.get_by_role("button", name="Similar").first.click()
    rate(tab, label(served, 3), 5)  # something else is asked then
    expect(tab.locator("#basis")).to_contain_text("From your 1 rating")
    expect(tab.locator("#back")).to_be_hidden()


def test_a_graph_that_did_not_load_is_loaded_once_the_network_is_back(open_page, page_of) -> None:
    tab = open_page(page_of("dot"))
    served = Recommender.load(BUNDLES["dot"], "cpu")
    tab.context.set_offline(True)
    rate(tab, label(served, 3), 5)
    expect(tab.locator("#error")).to_contain_text("It does not work here")
    tab.context.set_offline(False)
    rate(tab, label(served, 17), 1)
    expect(tab.locator("#basis")).to_contain_text("From your 2 ratings")
    expect(tab.locator("#error")).to_be_hidden()


def test_a_list_of_a_genre_and_of_another_length(open_page, page_of) -> None:
    """A graph with rules ranks the items of a genre, so the list is as long as they are many."""
    tab = open_page(page_of("dot"))
    served = Recommender.load(BUNDLES["dot"], "cpu")
    ranking = served.recommend(11, 50)
    check_list(tab, expected(served, ranking))
    tab.get_by_label("Show").select_option("10")
    expect(tab.locator("#list li")).to_have_count(10)
    tab.locator("#genre").select_option("Drama")
    check_list(tab, expected(served, served.recommend(11, 10, rules=Rules(categories=["Drama"]))))
    rate(tab, label(served, 3), 5)
    expect(tab.locator("#basis")).to_contain_text("From your 1 rating")
    dramas = served.fold_in([1003], [5.0], N_SHOWN, rules=Rules(categories=["Drama"]))
    tab.get_by_label("Show").select_option("20")
    check_list(tab, expected(served, dramas))
    expect(tab.locator("#few")).to_have_text("")


@pytest.mark.slow
def test_without_a_graph_with_rules_a_genre_is_cut_from_the_list(open_page, page_of) -> None:
    """Those of a genre among the best that the graph ranks; where they are few, the page says so."""
    model = "dot-bias-shards"
    served = Recommender.load(WITH_SHARDS[model], "cpu")
    assert served.manifest.item_rules is None
    tab = open_page(page_of(model))
    ranking = served.recommend(11, 50)
    check_list(tab, expected(served, ranking))
    tab.locator("#genre").select_option("Drama")
    drama = [index for index in ranking.item_indices.tolist() if "Drama" in served.items[index].genres]
    tab.get_by_label("Show").select_option("100")
    expect(tab.locator("#list .title")).to_have_text([label(served, index) for index in drama])
    expect(tab.locator("#few")).to_have_text(f"Drama: {len(drama)} of the {ranking.count} best.")
    tab.locator("#genre").select_option("")
    expect(tab.locator("#list li")).to_have_count(int(ranking.count))


@pytest.mark.slow
def test_by_keyboard_alone(open_page, page_of) -> None:
    tab = open_page(page_of("dot-bias"))
    tab.keyboard.press("Tab")
    expect(tab.get_by_label("Search a title")).to_be_focused()
    tab.keyboard.type("movie 13")
    tab.keyboard.press("Tab")
    tab.keyboard.press("Enter")
    stars = tab.get_by_role("group", name="Rate The Movie 13 (1963)")
    expect(stars.get_by_label("4 of 5 stars")).to_be_focused()
    tab.keyboard.press("ArrowRight")
    expect(stars.get_by_label("5 of 5 stars")).to_be_checked()
    expect(tab.locator("#basis")).to_contain_text("From your 1 rating.")
    served = Recommender.load(BUNDLES["dot-bias"], "cpu")
    check_list(tab, expected(served, served.fold_in([1013], [5.0], N_SHOWN)))
    tab.keyboard.press("Tab")
    tab.keyboard.press("Enter")
    expect(tab.locator("#rated li")).to_have_count(0)
    expect(tab.get_by_label("Search a title")).to_be_focused()


def test_a_hostile_title_is_text(open_page, serve_page, tmp_path) -> None:
    bundle = Path(shutil.copytree(BUNDLES["dot"], tmp_path / "bundle"))
    titles = [HOSTILE, *(f"Movie {place}" for place in range(2, 51))]
    categories = Recommender.load(bundle, "cpu").manifest.item_rules.categories
    items = {"titles": titles, "genres": ["|".join(["<b>", "&amp;", *categories])] * 50, "years": [1990] * 50}
    write_items(bundle / "items.parquet", range(1001, 1051), **items)
    edit_manifest(bundle)
    tab = open_page(serve_page(bundle))
    rate(tab, HOSTILE, 3)
    expect(tab.locator("#rated .title")).to_have_text([HOSTILE])
    assert tab.title() == "Recommendations in this tab"
    assert tab.locator("main img, main script, main b").count() == 0
    expect(tab.locator(".genres").first).to_contain_text("<b> · &amp;")


def test_a_browser_that_answers_wrongly_says_so(open_page, serve_page, tmp_path) -> None:
    bundle = Path(shutil.copytree(BUNDLES["dot"], tmp_path / "bundle"))
    document = msgspec.json.decode((bundle / "conformance.json").read_bytes())
    document["graphs"]["recommend_filtered"][0]["outputs"]["top_scores"]["data"][0] += 0.1
    (bundle / "conformance.json").write_bytes(msgspec.json.encode(document))
    edit_manifest(bundle)
    tab = open_page(serve_page(bundle), ready=False)
    expect(tab.locator("#error")).to_contain_text(
        "does not answer as the bundle's conformance cases say: top_scores"
    )
    expect(tab.locator("#list li")).to_have_count(0)


WEBGPU_FAILURES = {
    "no WebGPU adapter": "GPU.prototype.requestAdapter = async () => null",
    "error": "GPUAdapter.prototype.requestDevice = async () => { throw Error('no device') }",
    "conformance cases say": "GPUBuffer.prototype.mapAsync = async () => { throw Error('no result') }",
    "ort.webgpu.min.mjs": "",
}


@pytest.mark.parametrize(
    "why",
    ["no WebGPU adapter", *(pytest.param(why, marks=pytest.mark.slow) for why in list(WEBGPU_FAILURES)[1:])],
)
def test_where_webgpu_fails_webassembly_answers_and_says_why(chromium_with_webgpu, page_of, why) -> None:
    tab = chromium_with_webgpu.new_page()
    tab.add_init_script(WEBGPU_FAILURES[why])
    if not WEBGPU_FAILURES[why]:
        tab.route("**/ort.webgpu.min.mjs", lambda call: call.abort())
    tab.goto(f"{page_of('dot').url}/?runtime=webgpu")
    tab.wait_for_selector("main[aria-busy=false]")
    expect(tab.locator("#error")).to_be_hidden()
    expect(tab.locator("#runtime")).to_contain_text("ONNX Runtime Web (WebAssembly), after it answered")
    expect(tab.locator("#runtime")).to_have_text(
        re.compile(rf"WebGPU is not used \(.*{re.escape(why)}.*\)\.")
    )
    check_average(tab)
    tab.close()


@pytest.mark.slow
def test_webgpu_answers_and_where_it_fails_later_webassembly_goes_on(chromium_with_webgpu, page_of) -> None:
    tab = chromium_with_webgpu.new_page()
    tab.add_init_script("""
        const request = GPUAdapter.prototype.requestDevice
        GPUAdapter.prototype.requestDevice = async function (...options) {
          return (window.device = await request.apply(this, options))
        }
    """)
    tab.goto(f"{page_of('dot').url}/?runtime=webgpu")
    tab.wait_for_selector("main[aria-busy=false]")
    expect(tab.locator("#runtime")).to_contain_text("ONNX Runtime Web (WebGPU), after it answered")
    expect(tab.locator("#runtime")).not_to_contain_text("not used")
    check_average(tab)
    tab.evaluate("async () => { device.destroy(); await device.lost }")
    tab.locator("#suggestions button").first.click()
    expect(tab.locator("#runtime")).to_contain_text("ONNX Runtime Web (WebAssembly)")
    expect(tab.locator("#runtime")).to_contain_text("WebGPU is not used (Failed to execute 'mapAsync'")
    expect(tab.locator("#error")).to_be_hidden()
    tab.locator("#clear").click()
    check_average(tab)
    tab.close()


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_and_a_phone_needs_no_sideways_scroll(open_page, page_of, scheme) -> None:
    tab = open_page(page_of("dot-bias"), color_scheme=scheme, viewport=PHONE)

    def check(state: str) -> None:
        assert findings(tab, scheme) == []
        assert tab.evaluate("document.documentElement.scrollWidth") == PHONE["width"]
        picture(tab, f"browser-{state}-{scheme}")

    check("empty")
    tab.get_by_label("Search a title").fill("movie")
    expect(tab.locator("#results button")).to_have_count(8)
    check("search")
    rate(tab, "The Movie 3 (1953)", 5)
    expect(tab.locator("#basis")).to_contain_text("From your 1 rating")
    check("rated")


def test_the_policy_allows_requests_to_the_own_server_only(page_of) -> None:
    html = (page_of("dot").folder / "index.html").read_text(encoding="utf-8")
    (policy,) = re.findall(r'content="(default-src[^"]*)"', html)
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == "'none'"
    assert rules["connect-src"] == rules["style-src"] == "'self'"
    assert rules["script-src"] == "'self' 'wasm-unsafe-eval'"


def test_a_refusal_to_build_names_the_remedy(tmp_path) -> None:
    bundle = Path(shutil.copytree(BUNDLES["dot"], tmp_path / "bundle"))
    (bundle / "tables.bin").write_bytes(b"\0" * 16)
    edit_manifest(bundle)
    with pytest.raises(UnsupportedError, match="--tables never"):
        build(bundle, tmp_path / "page")
    with pytest.raises(UnsupportedError, match="npm ci --prefix demos/browser"):
        build(BUNDLES["dot"], tmp_path / "page", tmp_path / "nothing")
    assert not (tmp_path / "page").exists()


def test_only_an_earlier_page_is_replaced(tmp_path) -> None:
    if not PACKAGES.exists():
        pytest.skip("run `npm ci --prefix demos/browser`")
    output = tmp_path / "page"
    output.mkdir()
    (output / "letter.txt").write_text("dear", encoding="utf-8")
    with pytest.raises(OutputError, match="isn't ours"):
        build(BUNDLES["dot"], output, PACKAGES)
    (output / "letter.txt").rename(output / "index.html")
    build(BUNDLES["dot"], output, PACKAGES)
    assert (output / "bundle" / "fold_in.onnx.gzipped").exists()
