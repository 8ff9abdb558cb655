"""Map: the item factors in two dimensions, and the items with the highest and lowest biases."""

from __future__ import annotations

import gradio as gr
import numpy as np
from markupsafe import Markup

from demos.gradio_app import cards
from demos.gradio_app.page import drawn, html, scripted
from demos.gradio_app.showcase import Showcase
from demos.report.factor_map import factor_map
from demos.report.page import factor_map_section

N_BIASES = 8
# A bias learned from fewer ratings is unreliable. In small data, one rating is enough.
FEWEST_RATINGS = 20


def map_tab(showcase: Showcase, tab: gr.Tab) -> None:
    """Build the tab's content."""
    recommender = showcase.recommender
    counts = showcase.columns.counts
    found = factor_map(recommender.bundle, recommender.items, counts)
    with gr.Row(equal_height=False):
        with gr.Column(scale=5, min_width=320):
            if found is None:
                html(cards.card("empty", "Nothing to draw", "No item of this bundle has been rated."), "map")
            else:
                shown = scripted("", "map", "map.js", visible=False)
                drawn(tab, shown, lambda: cards.card("map", factor_map_section(found)))
        with gr.Column(scale=2, min_width=300):
            html(_biases(showcase, counts), "biases")


def _biases(showcase: Showcase, counts: np.ndarray) -> Markup:
    """The extreme item biases; `counts` as `item_counts` gives them."""
    bundle, items = showcase.recommender.bundle, showcase.recommender.items
    if all(table.name != "item_biases" for table in bundle.manifest.tables):
        return cards.card(
            "empty", "No item biases", f"A model of kind {bundle.manifest.model.kind} has none."
        )
    biases = bundle.table("item_biases").reshape(-1)
    biases = biases - biases[0]  # of the average item
    fewest = FEWEST_RATINGS if np.count_nonzero(counts[1:] >= FEWEST_RATINGS) >= 2 * N_BIASES else 1
    rated = 1 + np.flatnonzero(counts[1:] >= fewest)
    if not len(rated):
        return cards.card("empty", "No item biases", "No item of this bundle has been rated.")
    order = rated[np.argsort(-biases[rated], kind="stable")]
    n = min(N_BIASES, (len(order) + 1) // 2)
    ends = {"Highest": order[:n], "Lowest": order[::-1][: min(n, len(order) - n)]}
    lists = {
        name: [(items[index], float(biases[index])) for index in end.tolist()] for name, end in ends.items()
    }
    return cards.card("biases", fewest, lists, float(np.abs(biases[rated]).max()) or 1.0)
