"""`report_page`: a bundle's card as one HTML page, without a script and without a call to anywhere."""

from __future__ import annotations

from importlib.resources import files

import numpy as np
import pyarrow as pa

from demos.report import sections
from demos.report.factor_map import factor_map
from demos.report.markup import Markup, element, join
from serve.bundle.bundle import Bundle
from serve.bundle.items import Catalogue
from serve.bundle.manifest import Manifest
from serve.bundle.parquet import ParquetTable, numbers
from serve.errors import BundleError

# The page's own style, and nothing else, from anywhere.
# No error, rating or count is larger; floats beyond it would overflow on the way to pixels.
LARGEST = 1e18
POLICY = "default-src 'none'; style-src 'unsafe-inline'"


def report_page(bundle: Bundle) -> str:
    """The page, UTF-8 text.

    Raises:
        BundleError: the bundle's items are damaged, or the figures of its manifest can't be.
    """
    manifest = bundle.manifest
    check_figures(manifest)
    items = Catalogue(bundle.file("items.parquet"), manifest.model.n_items)
    title = f"{manifest.data.name}: {manifest.model.kind}"
    n_ratings = item_counts(bundle)
    body = join(
        _head(bundle, title),
        element(
            "div",
            sections.quality(manifest),
            sections.learning(manifest),
            sections.histogram(manifest),
            sections.popularity(manifest),
            sections.sizes(manifest),
            sections.item_map(factor_map(bundle, items, n_ratings)),
            sections.parity(manifest),
            sections.tables(manifest),
            sections.additions(manifest),
            sections.origin(manifest),
            class_="sections",
        ),
    )
    style = Markup(files("demos.report").joinpath("style.css").read_text(encoding="utf-8"))
    head = join(
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=POLICY),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("title", title),
        element("style", style),
    )
    page = element("html", element("head", head), element("body", element("main", body)), lang="en")
    return f"<!doctype html>\n{page}\n"


def check_figures(manifest: Manifest) -> None:
    """Refuse what can't be drawn.

    Raises:
        BundleError: figures that are not finite, or not as many as they should be.
    """
    figures = [value for epoch in manifest.training.history for value in epoch.values()]
    held_out = manifest.held_out
    if held_out is not None:
        columns = (held_out.ratings, held_out.n_observed, held_out.n_predicted)
        if (
            len({len(column) for column in columns}) != 1
            or not held_out.ratings
            or not held_out.by_popularity
        ):
            raise BundleError(
                "manifest.json: held_out is not as long as it should be. Export the bundle again."
            )
        figures += [value for column in columns for value in column]
        figures += [band.rmse for band in held_out.by_popularity]
    if not all(abs(value) < LARGEST for value in figures):
        raise BundleError("manifest.json: a figure is not finite. Export the bundle again.")


def item_counts(bundle: Bundle) -> np.ndarray:
    """How many ratings each item has: int64 [n_items + 1], a row group at a time."""
    table = ParquetTable(bundle.file("seen.parquet"), {"item_index": [pa.int32()]})
    counts = np.zeros(bundle.manifest.model.n_items + 1, np.int64)
    for group in range(table.n_row_groups):
        index = numbers(table.read(["item_index"], group)["item_index"])
        # Damage is not drawn: an index beyond the table is no item.
        counts += np.bincount(index[(index >= 0) & (index < len(counts))], minlength=len(counts))
    return counts


def _head(bundle: Bundle, title: str) -> Markup:
    lead = join("Version ", element("code", bundle.version), ", checked.")
    return element(
        "header", element("h1", title), element("p", lead, class_="lead"), sections.tiles(bundle.manifest)
    )
