"""Map: the item factors in two dimensions, and the items with the highest and lowest biases."""

from __future__ import annotations

import gradio as gr
import numpy as np

from demos.gradio_app import cards
from demos.gradio_app.page import html
from demos.gradio_app.showcase import Showcase
from demos.report.factor_map import factor_map
from demos.report.markup import Markup, element, join
from demos.report.page import item_counts
from demos.report.sections import item_map

N_BIASES = 8
# A bias that one rating has made says little; where the data is small, one rating has to do.
FEWEST_RATINGS = 20


def map_tab(showcase: Showcase) -> None:
    """Build the tab."""
    counts = item_counts(showcase.recommender.bundle)
    drawn = item_map(factor_map(showcase.recommender.bundle, showcase.recommender.items, counts))
    with gr.Row(equal_height=False):
        with gr.Column(scale=5, min_width=320):
            nothing = cards.empty("Nothing to draw", "No item of this bundle has been rated.")
            html(element("div", drawn or nothing, class_="report"), elem_id="map")
        with gr.Column(scale=2, min_width=300):
            html(_biases(showcase, counts), elem_id="biases")


def _biases(showcase: Showcase, counts: np.ndarray) -> Markup:
    if not any(table.name == "item_biases" for table in showcase.recommender.manifest.tables):
        kind = showcase.recommender.manifest.model.kind
        return cards.empty("No item biases", f"A model of kind {kind} has no such table.")
    biases = showcase.recommender.bundle.table("item_biases").reshape(-1)
    fewest = FEWEST_RATINGS if np.count_nonzero(counts[1:] >= FEWEST_RATINGS) >= 2 * N_BIASES else 1
    rated = 1 + np.flatnonzero(counts[1:] >= fewest)
    if not len(rated):
        return cards.empty("No item biases", "No item of this bundle has been rated.")
    order = rated[np.argsort(-biases[rated], kind="stable")]
    widest = float(np.abs(biases[rated]).max()) or 1.0
    n = min(N_BIASES, (len(order) + 1) // 2)
    about = element(
        "p",
        f"What an item has beyond every taste, in the model's own units (before scores are brought into "
        f"their range). Items with at least {fewest} rating{'s' if fewest > 1 else ''}.",
        class_="quiet",
    )
    return join(
        element("section", element("header", element("h2", "Item biases")), about, class_="list"),
        _list(showcase, "Highest", order[:n], biases, widest),
        _list(showcase, "Lowest", order[::-1][: min(n, len(order) - n)], biases, widest),
    )


def _list(showcase: Showcase, heading: str, order: np.ndarray, biases: np.ndarray, widest: float) -> Markup:
    rows = []
    for index in order.tolist():
        bias = float(biases[index])
        track = element(
            "span",
            element(
                "span", style=f"width:{100 * abs(bias) / widest:.1f}%", class_="below" if bias < 0 else None
            ),
            class_="bar-track",
        )
        title, year = cards.title_of(showcase.recommender.items[index])
        name = element("div", element("span", title, class_="title small"), class_="item")
        value = element("b", f"{bias:+.2f}", class_="score")
        rows.append(element("li", name, element("div", track, value, class_="measure short"), title=year))
    return element("section", element("h3", heading), element("ol", *rows, class_="items"), class_="list")
