"""`report_page`: a bundle's model card as one HTML page without scripts or requests."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.resources import files
from typing import Any

from markupsafe import Markup

from demos.report import charts
from demos.report.comparison import Pair, agreement, difference, metric_rows, verdict
from demos.report.factor_map import FactorMap, factor_map, item_counts
from demos.report.render import render, render_macro
from serve import Bundle
from serve.bundle.items import Catalogue
from serve.bundle.manifest import METRICS, Manifest
from serve.bundle.summary import summary
from serve.errors import BundleError

# Larger than every error, rating or count; larger floats overflow in the arithmetic of the charts.
LARGEST = 1e36
# Points of a learning curve; of more epochs, some are left out.
MAX_EPOCHS = 1000


def report_page(bundle: Bundle) -> str:
    """The page as text. The same bundle gives the same text.

    Raises:
        BundleError: the items of the bundle are damaged, or figures of its manifest are not finite.
    """
    manifest = bundle.manifest
    check_figures(manifest)
    items = Catalogue(bundle.file("items.parquet"), manifest.model.n_items)
    found = factor_map(bundle, items, item_counts(bundle))
    title = f"{manifest.data.name}: {manifest.model.title}"
    return _page(title, [bundle.version], sections(manifest, found))


def comparison_page(pair: Pair) -> str:
    """The page that compares two bundles, as text. The same bundles give the same text.

    Raises BundleError: the items of a bundle are damaged, or it does not answer as it must.
    """
    title = f"{pair.names[0]} against {pair.names[1]}"
    return _page(title, [one.bundle.version for one in pair.both], comparison_sections(pair))


def comparison_sections(pair: Pair) -> Markup:
    """The tiles and all sections of the comparison."""
    found, manifests = agreement(pair), [one.manifest for one in pair.both]
    return render(
        "report/templates/comparison.html.j2",
        pair=pair,
        manifests=manifests,
        found=found,
        verdict=verdict(pair),
        comparable=difference(*manifests) is None,
        rows=metric_rows(*manifests),
        overlap=charts.overlap(found),
    )


def _page(title: str, versions: list[str], content: Markup) -> str:
    return render(
        "report/templates/page.html.j2",
        title=title,
        versions=versions,
        style=Markup(files("demos.report").joinpath("style.css").read_text(encoding="utf-8")),
        sections=content,
    )


def sections(manifest: Manifest, found: FactorMap | None = None) -> Markup:
    """The tiles and all sections of the report; the factor map only where `found` is given."""
    held_out, history = manifest.held_out, manifest.training.history
    history = history[:: -1 - len(history) // MAX_EPOCHS][::-1]  # with the last one
    return render(
        "report/templates/sections.html.j2",
        manifest=manifest,
        scores_are_ratings=manifest.model.scores == "ratings",
        summary=summary(manifest.metrics),
        quality=_quality(manifest.metrics),
        learning=charts.learning(history),
        histogram=held_out and charts.histogram(held_out),
        popularity=held_out and charts.popularity(held_out.by_popularity),
        factor_map=found and factor_map_section(found),
    )


def factor_map_section(found: FactorMap) -> Markup:
    """The section with the map of the items."""
    return render_macro("report/templates/section.html.j2", "factor_map", found, charts.factor_map(found))


def check_figures(manifest: Manifest) -> None:
    """Refuse figures that can't be drawn.

    Raises:
        BundleError: figures are not finite, or lists of them differ in length.
    """
    figures = [value for epoch in manifest.training.history for value in epoch.values()]
    held_out = manifest.held_out
    if held_out is not None:
        columns = (held_out.ratings, held_out.n_observed, held_out.n_predicted)
        lengths = {len(column) for column in columns}
        if len(lengths) != 1 or not held_out.ratings or not held_out.by_popularity:
            raise BundleError(
                "manifest.json: held_out is empty, or its lists differ in length. Export the bundle again."
            )
        figures += [value for column in columns for value in column]
        figures += [band.rmse for band in held_out.by_popularity]
    if not all(abs(value) < LARGEST for value in figures):
        raise BundleError("manifest.json: a figure is not finite. Export the bundle again.")


def _quality(metrics: Mapping[str, Any]) -> dict[str, list[Any]]:
    """The names of the metrics, and a row of values for the model and for each baseline."""
    baselines = metrics.get("baselines")
    rows = {"this model": metrics, **(baselines if isinstance(baselines, Mapping) else {})}
    measured = {name.format(k=metrics.get("k", 10)): key for name, key in METRICS.items() if key in metrics}
    return {
        "names": list(measured),
        "rows": [
            (name, [found.get(key) for key in measured.values()])
            for name, found in rows.items()
            if measured and isinstance(found, Mapping)
        ],
    }
