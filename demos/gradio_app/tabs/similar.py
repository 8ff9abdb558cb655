"""Similar items: an item's neighbours, and what they have in common with it."""

from __future__ import annotations

from typing import NamedTuple
from urllib.parse import urlencode

import gradio as gr
from markupsafe import Markup

from demos.gradio_app import cards
from demos.gradio_app.page import find_items, how_many, html, on, rows, search_box, show
from demos.gradio_app.showcase import Showcase


class SimilarTab(NamedTuple):
    """What links and other tabs set or listen to."""

    note: gr.HTML
    found: gr.Radio
    shown: gr.HTML


def similar_tab(showcase: Showcase) -> SimilarTab | None:
    """Build the tab; None: the bundle has no similar items."""
    if not showcase.has_similar:
        html(cards.card("empty", "No similar items", "This bundle has no similar_items.onnx."), "neighbours")
        return None

    def neighbours(chosen: str | None, k: float) -> Markup:
        if chosen is None:
            return cards.card(
                "empty", "No item is chosen", "Search one to see its neighbours, and what they share with it."
            )
        found = showcase.similar(int(chosen), int(k))
        link = "?" + urlencode({"item": found.item.item_id, "tab": "similar"})
        return cards.card("similar", found, ("similar", "rate"), link)

    longest = min(showcase.longest_list, showcase.recommender.largest_k("similar_items"))
    with gr.Row(equal_height=False):
        with gr.Column(scale=2, min_width=280):
            query, note, found = search_box(showcase, "similar")
            with gr.Accordion("Options", open=False, elem_id="similar-options"):
                k = how_many(longest, "similar-k")
        with gr.Column(scale=3, min_width=300):
            shown = rows(neighbours(None, 1), "neighbours")

    on([query.submit], lambda text: find_items(showcase, text), [query], [note, found])
    on([found.change, k.change], show(neighbours), [found, k], [shown])
    return SimilarTab(note, found, shown)
