"""Model: the model card, from the manifest."""

from __future__ import annotations

from demos.gradio_app import cards
from demos.gradio_app.page import html
from demos.gradio_app.showcase import Showcase
from demos.report.page import sections


def model_tab(showcase: Showcase) -> None:
    """Build the tab."""
    bundle = showcase.recommender.bundle
    heading = f"{bundle.manifest.data.name}: {bundle.manifest.model.title}"
    html(cards.card("report", sections(bundle.manifest), heading, bundle.version), "card")
