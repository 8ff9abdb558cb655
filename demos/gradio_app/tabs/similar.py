"""Similar items: an item's neighbours, and why they are."""

from __future__ import annotations

import gradio as gr
from markupsafe import Markup

from demos.gradio_app import cards
from demos.gradio_app.page import how_many, html, on, said
from demos.gradio_app.showcase import Showcase
from serve.errors import ServeError


def similar_tab(showcase: Showcase) -> None:
    """Build the tab."""
    if not showcase.has_similar:
        html(cards.empty("No similar items", "This bundle has no graph for them: similar_items.onnx."))
        return
    titled = showcase.recommender.items.has_titles
    longest = min(showcase.longest_list, showcase.recommender.largest_k("similar_items"))
    with gr.Row(equal_height=False):
        with gr.Column(scale=2, min_width=280):
            query = gr.Textbox(
                label="Search a title" if titled else "Search an item id",
                placeholder="A few words, then Enter",
                max_lines=1,
                elem_id="similar-query",
            )
            note = html("", elem_id="similar-note")
            found = gr.Radio([], label="Found", visible=False, elem_id="similar-found")
            k = how_many(longest, "similar-k")
        with gr.Column(scale=3, min_width=300):
            shown = html(_nothing(), elem_id="neighbours")

    def search(text: str) -> tuple[object, object]:
        items, exact = showcase.search(text)
        note = said("" if exact else cards.not_found(text, bool(items)))
        if not items:
            return gr.Radio(choices=[], value=None, visible=False), note
        choices = [(cards.label(item), str(item.item_index)) for item in items]
        return gr.Radio(choices=choices, value=choices[0][1], visible=True), note

    def show(chosen: str | None, k: float) -> str:
        if chosen is None:
            return _nothing()
        try:
            return cards.neighbours(showcase.similar(int(chosen), int(k)))
        except ServeError as error:
            return cards.notice(str(error), "bad")

    on([query.submit], search, [query], [found, note])
    on([found.change, k.change], show, [found, k], [shown])


def _nothing() -> Markup:
    return cards.empty("No item is chosen", "Search one to see its neighbours, and what they share with it.")
