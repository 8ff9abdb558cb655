"""Compare: one user's lists by two bundles, side by side."""

from __future__ import annotations

import gradio as gr
from markupsafe import Markup

from demos.gradio_app import cards
from demos.gradio_app.compared import ComparedLists
from demos.gradio_app.page import drawn, find_users, how_many, html, notice, on, show, text_box
from demos.report.page import comparison_sections


def compare_tab(compared: ComparedLists, tab: gr.Tab) -> gr.Dropdown:
    """Build the tab's content, and return the choice of a user, which links set."""
    pair, longest, showcase = compared.pair, compared.longest_list, compared.both[0]
    first = showcase.find_users("")

    def lists(user_id: str | None, k: float) -> Markup:
        found = compared.of(user_id or "", int(k))
        return cards.card("side_by_side", found, compared.both, pair.names, user_id, int(k))

    def find(text: str) -> tuple[object, object]:
        return find_users(showcase, text)

    with gr.Row(elem_classes=["controls"]):
        query = text_box(label="Find a user", placeholder="An id", min_width=90, elem_id="compare-query")
        user = gr.Dropdown(first, value=first[0], label="User", min_width=90, elem_id="compare-user")
        k = how_many(longest, "compare-k")
    note = html("", "compare-note")
    shown = html(lists(first[0], min(10, longest)), "compared")
    comparison = html("", "comparison")
    drawn(tab, comparison, show(lambda: cards.card("report", comparison_sections(pair), "", "")))
    on([query.submit], find, [query], [user, note])
    on([user.input], lambda: notice(""), [], [note])
    on([user.change, k.change], show(lists), [user, k], [shown])
    return user
