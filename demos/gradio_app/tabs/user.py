"""Pick a user: the ratings and the recommendations of one user."""

from __future__ import annotations

from typing import Any, NamedTuple
from urllib.parse import urlencode

import gradio as gr
import numpy as np
from markupsafe import Markup

from demos.gradio_app import cards
from demos.gradio_app.download import download
from demos.gradio_app.options import ListOptions
from demos.gradio_app.page import how_many, html, notice, on, pressed, rows, show
from demos.gradio_app.showcase import Showcase

NEWEST, BEST = "Newest first", "Best first"
EVERY_GENRE = "All"
DEEDS = ("similar", "rate", "hide")
# Shares of the rated items: with more ratings than most, and with no more than half.
WELL_KNOWN, LITTLE_KNOWN = 0.9, 0.5


class UserTab(NamedTuple):
    """What links and other tabs set or listen to."""

    query: gr.Textbox
    user: gr.Dropdown
    k: gr.Slider
    genre: gr.Dropdown
    note: gr.HTML
    top: gr.HTML


def user_tab(showcase: Showcase) -> UserTab:
    """Build the tab."""
    first, has_seen = showcase.find_users(""), showcase.has_seen
    deeds = [deed for deed in DEEDS if deed != "similar" or showcase.has_similar]

    bands = popularity_bands(showcase.columns.counts)
    years = showcase.columns.years

    def picks(
        user_id: str | None,
        k: float,
        exclude_seen: bool,
        genre: str | None,
        hidden: list[int],
        between: list[int | None],
        known: str,
    ) -> Markup:
        wanted = None if genre == EVERY_GENRE else genre
        fewest, most = bands.get(known, (None, None))
        options = ListOptions(
            top_k=int(k),
            exclude_seen=exclude_seen,
            genre=wanted,
            min_year=between[0],
            max_year=between[1],
            min_ratings=fewest,
            max_ratings=most,
            hidden=tuple(hidden),
        )
        found = showcase.recommend(user_id or "", options)
        heading = f"For user {user_id}" if found.known else "For the average user"
        asked = {"user": user_id or "", "tab": "user", "k": options.top_k, "genre": wanted or ""}
        link = "?" + urlencode({name: value for name, value in asked.items() if value})
        file = download(found, f"user-{user_id}" if found.known else "average-user")
        listed = cards.card("picks", found, showcase, heading, wanted, deeds, file, link)
        if not hidden:
            return listed
        last = showcase.recommender.items[hidden[-1]]
        more = f" and {len(hidden) - 1} more" if len(hidden) > 1 else ""
        return cards.card("undo", f"Hidden: {cards.label(last)}{more}.", last) + listed

    def history(user_id: str | None, order: str | None) -> Markup:
        if not user_id:
            return cards.card("empty", "No user is chosen", "Choose one to see what they have rated.")
        rated = showcase.history(user_id, newest_first=order != BEST)
        if not rated:
            why = f"ratings by user {user_id}" if has_seen else "ratings: it was exported without them"
            return cards.card("empty", "No ratings", f"This bundle has no {why}.")
        return cards.card("rated", rated, showcase.scale, f"What user {user_id} has rated")

    with gr.Row(elem_classes=["controls"]):
        query = gr.Textbox(
            label="Find a user",
            placeholder="An id",
            max_lines=1,
            min_width=90,
            elem_id="user-query",
        )
        user = gr.Dropdown(first, value=first[0], label="User", min_width=90, elem_id="user")
        genre = gr.Dropdown(
            [EVERY_GENRE, *showcase.genres],
            value=EVERY_GENRE,
            label="Genre",
            visible=bool(showcase.genres),
            min_width=90,
            elem_id="genre",
        )
    with gr.Accordion("Options", open=False, elem_id="options"), gr.Row(elem_classes=["controls"]):
        k = how_many(showcase.longest_list, "k")
        exclude_seen = gr.Checkbox(
            has_seen,
            label="Leave out what they have rated",
            visible=has_seen,
            elem_id="exclude-seen",
        )
        order = gr.Radio(
            [NEWEST, BEST] if showcase.has_times else [BEST],
            value=NEWEST if showcase.has_times else BEST,
            label="Their ratings",
            visible=showcase.has_times,
            elem_id="order",
        )
        first_year, last_year = (
            gr.Number(
                label=label,
                precision=0,
                value=year,
                min_width=90,
                visible=years is not None,
                elem_id=elem_id,
            )
            for label, year, elem_id in zip(
                ("From year", "To year"), years or (None, None), ("first-year", "last-year"), strict=True
            )
        )
        known = gr.Dropdown(
            list(bands), value=next(iter(bands)), label="How well known", min_width=160, elem_id="known"
        )
    between = gr.State([None, None])
    note = html("", "user-note")
    hidden = gr.State([])
    with gr.Row(equal_height=False):
        with gr.Column(scale=3, min_width=320):
            top = rows(
                picks(
                    first[0],
                    min(10, showcase.longest_list),
                    has_seen,
                    EVERY_GENRE,
                    [],
                    [None, None],
                    "",
                ),
                "picks",
            )
        with gr.Column(scale=2, min_width=300):
            rated = html(history(first[0], order.value), "history")

    def find(text: str) -> tuple[object, object]:
        if found := showcase.find_users(text):
            return gr.Dropdown(choices=found, value=found[0]), notice("")
        told = f"No user id contains “{text.strip()[:80]}”. An unknown user gets the average user's list."
        return gr.Dropdown(choices=first, value=None), notice(told)

    def hide(left_out: list[int], event: gr.EventData) -> object:
        deed, item = pressed(event, showcase.recommender.items)
        if deed == "hide" and item.item_index not in left_out:
            return [*left_out, item.item_index]
        return left_out[:-1] if deed == "undo" else gr.skip()

    on([query.submit], find, [query], [user, note])
    on([user.change, order.change], show(history), [user, order], [rated])
    on([user.input], lambda: notice(""), [], [note])
    on([top.click], hide, [hidden], [hidden])
    if years is not None:
        for place, number in enumerate((first_year, last_year)):

            def enter(low: int | None, high: int | None, place: int = place) -> tuple[object, object]:
                # The other box is left alone: somebody may be typing in it.
                ends = clamped(low or years[0], years), clamped(high or years[1], years)
                bounds = [None if end == year else end for end, year in zip(ends, years, strict=True)]
                return ends[place], bounds

            on([number.submit, number.blur], enter, [first_year, last_year], [number, between])
    asked: list[Any] = [user, k, exclude_seen, genre, hidden, between, known]
    on([option.change for option in asked], show(picks), asked, [top])
    return UserTab(query, user, k, genre, note, top)


def popularity_bands(counts: np.ndarray) -> dict[str, tuple[int | None, int | None]]:
    """Names of how well items are known, with the least and the largest number of ratings of each."""
    rated = counts[1:][counts[1:] > 0]
    bands: dict[str, tuple[int | None, int | None]] = {"All": (None, None)}
    if len(rated):
        many, few = int(np.quantile(rated, WELL_KNOWN)), int(np.quantile(rated, LITTLE_KNOWN))
        bands[f"Well known: {many:,} ratings or more"] = (many, None)
        if few < many:
            bands[f"Less known: {few:,} or fewer"] = (None, few)
    return bands


def clamped(year: int, years: tuple[int, int]) -> int:
    """A bound brought into the years of the data."""
    return min(max(year, years[0]), years[1])
