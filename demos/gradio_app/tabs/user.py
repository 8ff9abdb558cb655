"""Pick a user: the ratings and the recommendations of one user."""

from __future__ import annotations

import gradio as gr
from markupsafe import Markup

from demos.gradio_app import cards
from demos.gradio_app.page import how_many, html, notice, on, show
from demos.gradio_app.showcase import Showcase

NEWEST, BEST = "Newest first", "Best first"
EVERY_GENRE = "All genres"


def user_tab(showcase: Showcase) -> None:
    """Build the tab."""
    first = showcase.find_users("")
    has_seen = not showcase.recommender.manifest.without_seen

    def picks(user_id: str | None, k: float, exclude_seen: bool, genre: str | None) -> Markup:
        wanted = None if genre == EVERY_GENRE else genre
        found = showcase.recommend(user_id or "", int(k), exclude_seen=exclude_seen, genre=wanted)
        heading = f"For user {user_id}" if found.known else "For the average user"
        return cards.card("picks", found, showcase, heading)

    def history(user_id: str | None, order: str | None) -> Markup:
        if not user_id:
            return cards.card("empty", "No user is chosen", "Choose one to see what they have rated.")
        rows = showcase.history(user_id, newest_first=order != BEST)
        if not rows:
            why = f"ratings by user {user_id}" if has_seen else "ratings: it was exported without them"
            return cards.card("empty", "No ratings", f"This bundle has no {why}.")
        return cards.card("rated", rows, showcase.scale, f"What user {user_id} has rated")

    with gr.Row(equal_height=False):
        with gr.Column(scale=1, min_width=260):
            query = gr.Textbox(
                label="Find a user",
                placeholder="The start of an id, then Enter",
                max_lines=1,
                elem_id="user-query",
            )
            user = gr.Dropdown(first, value=first[0], label="User", elem_id="user")
            note = html("", "user-note")
            k = how_many(showcase.longest_list, "k")
            genre = gr.Dropdown(
                [EVERY_GENRE, *showcase.genres],
                value=EVERY_GENRE,
                label="Genre",
                visible=bool(showcase.genres),
                elem_id="genre",
            )
            exclude_seen = gr.Checkbox(
                has_seen, label="Leave out what they have rated", visible=has_seen, elem_id="exclude-seen"
            )
            order = gr.Radio([NEWEST, BEST], value=NEWEST, label="Their ratings", elem_id="order")
        with gr.Column(scale=2, min_width=300):
            top = html(picks(first[0], min(10, showcase.longest_list), has_seen, EVERY_GENRE), "picks")
        with gr.Column(scale=2, min_width=300):
            rated = html(history(first[0], NEWEST), "history")

    def find(text: str) -> tuple[object, object]:
        if found := showcase.find_users(text):
            return gr.Dropdown(choices=found, value=found[0]), notice("")
        told = f"No user id contains “{text.strip()[:80]}”. An unknown user gets the average user's list."
        return gr.Dropdown(choices=first, value=None), notice(told)

    on([query.submit], find, [query], [user, note])
    changes = [user.change, k.change, exclude_seen.change, genre.change]
    on(changes, show(picks), [user, k, exclude_seen, genre], [top])
    on([user.change, order.change], show(history), [user, order], [rated])
    on([user.input], lambda: notice(""), [], [note])
