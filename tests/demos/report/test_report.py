"""The report in a real browser: whole without a network, readable on screen, phone and paper."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from dataclasses import replace
from functools import cache
from pathlib import Path

import msgspec
import numpy as np
import pytest
from fixture_bundles import BUNDLES, FIXTURES, edit_manifest
from tabs import PHONE

from demos.report import charts
from demos.report.factor_map import FactorMap, Point, factor_map, item_counts
from demos.report.page import report_page, sections
from serve import open_bundle
from serve.bundle.ids import write_items
from serve.bundle.items import Catalogue
from serve.bundle.manifest import HeldOut
from serve.bundle.summary import summary
from serve.errors import BundleError

SECTIONS = [
    "How good it is",
    "Learning curves",
    "Ratings and predictions",
    "Error by popularity",
    "Sizes",
    "Factor map",
    "Parity with torch",
    "Tables",
    "Where it comes from",
]


@cache
def report_of(bundle: Path) -> str:
    return report_page(open_bundle(bundle))


@pytest.fixture
def show(open_tab, tmp_path):
    """Open the report of a bundle in a tab."""

    def get(bundle: Path = FIXTURES / "dot-bias", **context):
        path = tmp_path / "card.html"
        path.write_text(report_of(bundle), encoding="utf-8")
        return open_tab(path.as_uri(), silent=True, **{"viewport": {"width": 1120, "height": 900}, **context})

    return get


@pytest.fixture
def edited(tmp_path):
    """A copy of a bundle with a changed manifest, and with other items where they are given."""

    def edit(change=lambda manifest: None, **items) -> Path:
        folder = Path(shutil.copytree(FIXTURES / "dot-bias", tmp_path / "edited"))
        if items:
            write_items(folder / "items.parquet", np.arange(1001, 1051), **items)
        edit_manifest(folder, change)
        return folder

    return edit


def headings(page) -> list[str]:
    return [heading.inner_text() for heading in page.query_selector_all("h2")]


def overflow(page) -> int:
    """Pixels by which the page is wider than the window."""
    return int(page.evaluate("document.documentElement.scrollWidth - window.innerWidth"))


@pytest.mark.parametrize(
    "name", ["parts", *(pytest.param(name, marks=pytest.mark.slow) for name in BUNDLES if name != "parts")]
)
def test_every_bundle_has_a_whole_page(show, name) -> None:
    bundle = open_bundle(FIXTURES / name)
    page = show(FIXTURES / name)
    model, history = bundle.manifest.model, bundle.manifest.training.history
    left_out = set() if any(row.keys() - {"epoch", "iteration"} for row in history) else {"Learning curves"}
    if model.scores == "ranking":
        left_out |= {"Ratings and predictions", "Error by popularity"}
    assert headings(page) == [name for name in SECTIONS if name not in left_out]
    assert ("RMSE, held out" in (page.text_content(".tiles") or "")) == (model.scores == "ratings")
    assert page.inner_text("h1") == f"tiny: {' + '.join(part.kind for part in model.parts)}"
    assert bundle.version in page.inner_text("header")
    assert overflow(page) <= 0
    rows = page.query_selector_all("section:has(h2:text-is('Parity with torch')) tbody tr")
    assert len(rows) == len(bundle.manifest.parity.checks)
    assert page.locator(".map use").count() == np.count_nonzero(item_counts(bundle))
    for chart in page.locator("svg").all():
        assert chart.get_attribute("role") == "img"
        assert chart.get_attribute("aria-label")
    ids = page.eval_on_selector_all("[id]", "all => all.map(element => element.id)")
    assert len(ids) == len(set(ids))
    held_out = bundle.manifest.held_out
    assert (held_out is None) == (model.scores == "ranking")
    if held_out is None:
        return
    tips = page.locator("svg title").all_text_contents()
    for rating, observed, predicted in zip(
        held_out.ratings, held_out.n_observed, held_out.n_predicted, strict=True
    ):
        assert f"rating {rating:g}, ratings: {observed}" in tips
        assert f"rating {rating:g}, predictions: {predicted}" in tips
    # The heights of bars, in pixels, are proportional to the counts.
    bars = page.locator("g:has(> title:text-matches(', ratings: '))").all()
    heights = np.array([bar.bounding_box()["height"] for bar in bars])
    counts = np.array(held_out.n_observed)
    np.testing.assert_allclose(heights / heights.max(), counts / counts.max(), atol=0.01)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_screen_phone_and_paper(show, scheme) -> None:
    page = show(color_scheme=scheme)
    background = "getComputedStyle(document.body).backgroundColor"
    assert page.evaluate(background) == {"light": "rgb(255, 255, 255)", "dark": "rgb(18, 22, 28)"}[scheme]
    phone = show(color_scheme=scheme, viewport=PHONE)
    assert overflow(phone) <= 0
    # Paper is white, whatever the screen is.
    page.emulate_media(media="print")
    assert page.evaluate(background) == "rgb(255, 255, 255)"
    pdf = page.pdf(prefer_css_page_size=True)
    assert pdf.startswith(b"%PDF-")
    assert 2 <= len(re.findall(rb"/Type\s*/Page\b", pdf)) <= 4


def test_a_phone_shows_where_there_is_more_of_the_map(show) -> None:
    phone = show(viewport={"width": 390, "height": 6000})
    place = phone.locator(".scroll:has(.map)")

    def shades() -> list[bool]:
        """Whether the left and the right edge differ from the middle, above the map's first point."""
        box = place.bounding_box()
        left, right = box["x"] + 1, box["x"] + box["width"] - 3
        middle, *edges = (
            phone.screenshot(clip={"x": round(x), "y": round(box["y"]) + 2, "width": 2, "height": 2})
            for x in (box["x"] + box["width"] / 2, left, right)
        )
        return [edge != middle for edge in edges]

    assert shades() == [False, True]
    place.evaluate("place => place.scrollLeft = 100")
    assert shades() == [True, True]
    place.evaluate("place => place.scrollLeft = 10_000")
    assert shades() == [True, False]
    phone.set_viewport_size({"width": 1120, "height": 6000})
    assert shades() == [False, False]


HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(2)>',
    "</title></svg><script>alert(3)</script>",
    "'; alert(4); '",
    "\x1b[31mred\x07",
    "\u202eright to left",
    "&amp;lt;",
    "$\\frac{1$ _^",
    "x" * 3000,
    "映画 🎬",
]


def test_hostile_titles_and_names_are_text(show, edited) -> None:
    titles = [HOSTILE[place % len(HOSTILE)] + str(place) for place in range(50)]

    def spoil(manifest) -> None:
        manifest["data"]["name"] = HOSTILE[0]
        manifest["data"]["licence"] = HOSTILE[1]
        manifest["training"]["settings"][HOSTILE[2]] = HOSTILE[1]
        manifest["metrics"]["baselines"][HOSTILE[2]] = {"rmse": HOSTILE[0]}
        manifest["metrics"]["k"] = HOSTILE[1]
        manifest["metrics"]["n_held_out"] = HOSTILE[1]
        manifest["parity"]["checks"][0]["provider"] = HOSTILE[1]

    page = show(edited(spoil, titles=titles, genres=titles))
    assert page.evaluate("document.querySelectorAll('script, img').length") == 0
    assert page.inner_text("h1").startswith("<script>alert(1)</script>:")
    tips = "\n".join(page.locator(".map title").all_text_contents())
    for title in titles:
        if title.isprintable():
            assert title in tips
    assert "\x1b" not in tips
    assert "\u202e" not in tips
    assert overflow(page) <= 0


def test_added_items_are_listed(show, edited) -> None:
    addition = {
        "base_version": "ab" * 32,
        "data": "new",
        "data_sha256": "0" * 64,
        "item_ids": list(range(1036, 1051)),
        "n_item_ratings": [4] * 15,
        "n_unknown_users": 0,
        "n_items_left_out": 0,
        "n_known_items": 0,
        "regularization": 2.0,
        "left_out_rmse": None,
    }

    def add(manifest) -> None:
        manifest.update(additions=[addition])
        manifest["data"]["n_ratings"] -= 60  # of the training

    page = show(edited(add))
    section = page.inner_text("section:has(h2:text-is('Added items'))")
    assert "1036, 1037" in section
    assert "1047…" in section
    assert "60" in section


def test_a_sentence_says_how_the_model_compares() -> None:
    bundle = open_bundle(FIXTURES / "dot-bias")
    sentence = summary(bundle.manifest.metrics)
    assert sentence is not None
    assert f'<p class="verdict">{sentence}</p>' in report_page(bundle)
    assert f'<p class="verdict">{sentence}</p>' in sections(bundle.manifest)


def test_ids_alone_are_enough(show, edited) -> None:
    page = show(edited(titles=None))
    assert headings(page) == SECTIONS
    assert page.locator(".map title").first.text_content().startswith("10")
    assert page.locator(".map ~ .legend").count() == 0


def test_a_bundle_without_the_figures_says_so(show, edited) -> None:
    def strip(manifest) -> None:
        manifest.pop("held_out")
        manifest["training"]["history"] = []
        manifest["metrics"] = {}

    page = show(edited(strip))
    assert page.inner_text("body").count("The bundle does not hold the figures. Export it again") == 2
    assert "Learning curves" not in headings(page)


@pytest.mark.parametrize(
    "change",
    [
        lambda manifest: manifest["held_out"]["n_observed"].pop(),
        lambda manifest: manifest["held_out"].update(by_popularity=[]),
        lambda manifest: manifest["training"]["history"][0].update(valid_rmse=1e300),
        lambda manifest: manifest["held_out"]["by_popularity"][0].update(rmse=-1e300),
    ],
)
def test_impossible_figures_are_refused(edited, change) -> None:
    with pytest.raises(BundleError, match=r"manifest\.json"):
        report_page(open_bundle(edited(change)))


def test_the_map_of_a_bundle_whose_two_equal_tables_are_one() -> None:
    bundle = open_bundle(FIXTURES / "ranking")
    items = Catalogue(bundle.file("items.parquet"), bundle.manifest.model.n_items)
    tables = [table for table in bundle.manifest.tables if table.name != "item_factors"]
    bundle = replace(bundle, manifest=msgspec.structs.replace(bundle.manifest, tables=tables))
    assert factor_map(bundle, items, item_counts(bundle)) is not None


def test_the_map_shows_the_main_directions() -> None:
    """The places are uncorrelated, and hold the two largest variances of the factors."""
    bundle = open_bundle(FIXTURES / "dot-bias")
    items = Catalogue(bundle.file("items.parquet"), bundle.manifest.model.n_items)
    counts = item_counts(bundle)
    assert counts.sum() == bundle.manifest.data.n_ratings
    found = factor_map(bundle, items, counts)
    assert found is not None
    shown = 1 + np.argsort(-counts[1:], kind="stable")[: len(found.points)]
    factors = bundle.table("item_factors")[shown].astype(np.float64)
    factors -= factors.mean(axis=0)
    variances = np.linalg.eigvalsh(factors.T @ factors)[::-1]
    places = np.array([(point.x, point.y) for point in found.points])
    np.testing.assert_allclose(places.T @ places, np.diag(variances[:2]), atol=1e-9)
    assert found.explained == pytest.approx(variances[:2].sum() / variances.sum())


def test_labels_of_a_map_never_overlap() -> None:
    crowd = [Point(0.001 * i, 0.001 * i, 0, f"{i}: 1 rating", "a long label") for i in range(50)]
    points = [*crowd, Point(5.0, 5.0, 0, "far: 1 rating", "$far$ away")]
    drawn = charts.factor_map(FactorMap(points, ["items"], 1.0)).svg
    assert drawn.count(">a long label</text>") == 1
    assert drawn.count(">$far$ away</text>") == 1
    assert drawn.count("<use ") == 51


def test_charts_of_little_data() -> None:
    one = charts.learning([{"train_loss": 0.25}])
    assert one is not None
    assert "epoch 1: 0.5000" in one.svg
    assert charts.learning([{"seconds": 1}]) is None
    nothing = HeldOut(n=0, ratings=[1.0], n_observed=[0], n_predicted=[0], by_popularity=[])
    assert "rating 1, predictions: 0" in charts.histogram(nothing).svg
    assert "<use " in charts.factor_map(FactorMap([Point(0, 0, 0, "a: 1 rating", "a")], ["items"], 1.0)).svg


@pytest.mark.slow
def test_the_command(tmp_path) -> None:
    def recsys(bundle: Path, output: Path) -> tuple[int, str]:
        line = [sys.executable, "-m", "recsys", "report", bundle, "-o", output]
        done = subprocess.run(line, capture_output=True, text=True)
        return done.returncode, done.stderr

    output = tmp_path / "new" / "card.html"
    assert recsys(FIXTURES / "mlp", output) == (0, "")
    assert output.read_text(encoding="utf-8") == report_of(FIXTURES / "mlp")
    assert recsys(FIXTURES / "mlp", output / "card.html") == (1, f"Error: {output}: File exists\n")
    bundle = Path(shutil.copytree(FIXTURES / "mlp", tmp_path / "bundle"))
    code, stderr = recsys(bundle, bundle / "manifest.json")
    assert (code, "to which nothing is added" in stderr) == (2, True)
    open_bundle(bundle)
