"""Pick a user: what they have rated, and what they get."""

from __future__ import annotations

import gradio as gr
from markupsafe import Markup

from demos.gradio_app import cards
from demos.gradio_app.page import how_many, html, on, said
from demos.gradio_app.showcase import Showcase
from serve.errors import ServeError

NEWEST, BEST = "Newest first", "Best first"
EVERY_GENRE = "All genres"


def user_tab(showcase: Showcase) -> None:
    """Build the tab."""
    first = showcase.users.first(100)
    start = first[0]
    with gr.Row(equal_height=False):
        with gr.Column(scale=1, min_width=260):
            query = gr.Textbox(
                label="Find a user",
                placeholder="How an id begins, then Enter",
                max_lines=1,
                elem_id="user-query",
            )
            user = gr.Dropdown(first, value=start, label="User", elem_id="user")
            note = html("", elem_id="user-note")
            k = how_many(showcase.longest_list, "k")
            genre = gr.Dropdown(
                [EVERY_GENRE, *showcase.genres],
                value=EVERY_GENRE,
                label="Genre",
                visible=bool(showcase.genres),
                elem_id="genre",
            )
            exclude_seen = gr.Checkbox(True, label="Leave out what they have rated", elem_id="exclude-seen")
            order = gr.Radio([NEWEST, BEST], value=NEWEST, label="Their ratings", elem_id="order")
        with gr.Column(scale=2, min_width=300):
            top = html(
                _top(showcase, start, min(10, showcase.longest_list), True, EVERY_GENRE), elem_id="picks"
            )
        with gr.Column(scale=2, min_width=300):
            rated = html(_rated(showcase, start, NEWEST), elem_id="history")

    def find(text: str) -> tuple[object, object]:
        found = showcase.users.find(text)
        if found:
            return gr.Dropdown(choices=found, value=found[0]), said("")
        # Not an error: this is what an unknown user gets.
        shown = text.strip()[:80]
        text = f"No user id has “{shown}” in it. Somebody unknown gets the average user's list."
        return gr.Dropdown(choices=first, value=None), said(cards.notice(text))

    def top_of(user_id: str | None, k: float, seen: bool, genre: str | None) -> str:
        return _top(showcase, user_id, int(k), seen, genre)

    def rated_of(user_id: str | None, order: str | None) -> str:
        return _rated(showcase, user_id, order)

    on([query.submit], find, [query], [user, note])
    on(
        [user.change, k.change, exclude_seen.change, genre.change],
        top_of,
        [user, k, exclude_seen, genre],
        [top],
    )
    on([user.change, order.change], rated_of, [user, order], [rated])
    on([user.input], lambda: said(""), [], [note])


def _top(showcase: Showcase, user_id: str | None, k: int, exclude_seen: bool, genre: str | None) -> Markup:
    wanted = None if genre in (None, EVERY_GENRE) else genre
    try:
        found = showcase.recommend(user_id or "", k, exclude_seen=exclude_seen, genre=wanted)
    except ServeError as error:
        return cards.notice(str(error), "bad")
    heading = f"For user {user_id}" if found.known else "For the average user"
    return cards.picks(found, showcase.score_range, heading)


def _rated(showcase: Showcase, user_id: str | None, order: str | None) -> Markup:
    if not user_id:
        return cards.empty("No user is chosen", "Choose one to see what they have rated.")
    try:
        items = showcase.history(user_id, newest_first=order != BEST)
    except ServeError as error:
        return cards.notice(str(error), "bad")
    if not items:
        return cards.empty("No ratings", f"User {user_id} has rated nothing that this bundle knows of.")
    return cards.rated(items, showcase.ratings_range, f"What user {user_id} has rated")
