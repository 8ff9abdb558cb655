"""Similar items: an item's neighbours, and what they have in common with it."""

from __future__ import annotations

import gradio as gr
from markupsafe import Markup

from demos.gradio_app import cards
from demos.gradio_app.page import find_items, how_many, html, on, search_box, show
from demos.gradio_app.showcase import Showcase


def similar_tab(showcase: Showcase) -> None:
    """Build the tab."""
    if not showcase.has_similar:
        html(cards.card("empty", "No similar items", "This bundle has no similar_items.onnx."), "neighbours")
        return

    def neighbours(chosen: str | None, k: float) -> Markup:
        if chosen is None:
            return cards.card(
                "empty", "No item is chosen", "Search one to see its neighbours, and what they share with it."
            )
        return cards.card("similar", showcase.similar(int(chosen), int(k)))

    longest = min(showcase.longest_list, showcase.recommender.largest_k("similar_items"))
    with gr.Row(equal_height=False):
        with gr.Column(scale=2, min_width=280):
            query, note, found = search_box(showcase, "similar")
            k = how_many(longest, "similar-k")
        with gr.Column(scale=3, min_width=300):
            shown = html(neighbours(None, 1), "neighbours")

    on([query.submit], lambda text: find_items(showcase, text), [query], [note, found])
    on([found.change, k.change], show(neighbours), [found, k], [shown])
