"""Model: the model card, from the manifest."""

from __future__ import annotations

import gradio as gr

from demos.gradio_app import cards
from demos.gradio_app.page import drawn, html
from demos.gradio_app.showcase import Showcase
from demos.report.page import sections


def model_tab(showcase: Showcase, tab: gr.Tab) -> None:
    """Build the tab's content."""
    bundle = showcase.recommender.bundle
    heading = f"{bundle.manifest.data.name}: {bundle.manifest.model.title}"
    shown = html("", "card")
    drawn(tab, shown, lambda: cards.card("report", sections(bundle.manifest), heading, bundle.version))
