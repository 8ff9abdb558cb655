"""Model: the bundle's card, from its manifest."""

from __future__ import annotations

from demos.gradio_app.page import html
from demos.gradio_app.showcase import Showcase
from demos.report import sections
from demos.report.markup import element


def model_tab(showcase: Showcase) -> None:
    """Build the tab."""
    bundle = showcase.recommender.bundle
    manifest = bundle.manifest
    card = element(
        "div",
        element("h2", f"{manifest.data.name}: {manifest.model.kind}"),
        element("p", "Version ", element("code", bundle.version), ", checked.", class_="lead"),
        sections.tiles(manifest),
        element(
            "div",
            sections.quality(manifest),
            sections.learning(manifest),
            sections.histogram(manifest) if manifest.held_out else None,
            sections.popularity(manifest) if manifest.held_out else None,
            sections.sizes(manifest),
            sections.parity(manifest),
            sections.tables(manifest),
            sections.additions(manifest),
            sections.origin(manifest),
            class_="sections",
        ),
        class_="report",
    )
    html(card, elem_id="card")
