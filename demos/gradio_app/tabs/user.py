"""Pick a user: the ratings and the recommendations of one user."""

from __future__ import annotations

from typing import Any, NamedTuple
from urllib.parse import urlencode

import gradio as gr
from markupsafe import Markup

from demos.gradio_app import cards
from demos.gradio_app.controls import VarietyControls, variety_controls, variety_of
from demos.gradio_app.download import download
from demos.gradio_app.options import ListOptions
from demos.gradio_app.page import find_users, how_many, html, notice, on, pressed, rows, show, text_box
from demos.gradio_app.showcase import Showcase
from demos.report.popularity import popularity_bands
from serve import Variety

NEWEST, BEST = "Newest first", "Best first"
EVERY_GENRE = "All"
DEEDS = ("similar", "rate", "hide")


class UserTab(NamedTuple):
    """What links and other tabs set or listen to."""

    user: gr.Dropdown
    k: gr.Slider
    genre: gr.Dropdown
    exclude_seen: gr.Checkbox
    years: tuple[gr.Number, gr.Number]
    between: gr.State
    """The bounds of the years, None where they leave nothing out."""
    known: gr.Dropdown
    variety: VarietyControls
    linked: gr.State
    """Asks for the list once more where it changes."""
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
        *varied: Any,
    ) -> Markup:
        wanted = None if genre == EVERY_GENRE else genre
        fewest, most = bands.get(known, (None, None))
        options = ListOptions(
            top_k=int(k),
            exclude_seen=bool(exclude_seen),
            genre=wanted,
            min_year=between[0],
            max_year=between[1],
            min_ratings=fewest,
            max_ratings=most,
            hidden=tuple(hidden),
            variety=variety_of(*varied),
        )
        found = showcase.recommend(user_id or "", options)
        heading = f"For user {user_id}" if found.known else "For the average user"
        link = "?" + urlencode(address(user_id or "", options, known))
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
        query = text_box(label="Find a user", placeholder="An id", min_width=90, elem_id="user-query")
        user = gr.Dropdown(first, value=first[0], label="User", min_width=90, elem_id="user")
        genre = gr.Dropdown(
            [EVERY_GENRE, *showcase.genres],
            value=EVERY_GENRE,
            label="Genre",
            visible=bool(showcase.genres),
            min_width=90,
            elem_id="genre",
        )
    with gr.Accordion("Options", open=False, elem_id="options"), gr.Row(elem_classes=["options"]):
        k = how_many(showcase.longest_list, "k")
        known = gr.Dropdown(
            list(bands), value=next(iter(bands)), label="How well known", min_width=160, elem_id="known"
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
        variety = variety_controls(showcase)
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
                    *(one.value for one in variety),
                ),
                "picks",
            )
        with gr.Column(scale=2, min_width=300):
            rated = html(history(first[0], order.value), "history")

    def find(text: str) -> tuple[object, object]:
        return find_users(showcase, text)

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
    # What somebody enters. A link sets several options at once, whose changes would overtake each other: it
    # asks for its list with `linked`.
    linked = gr.State(0)
    entered: list[Any] = [k, exclude_seen, genre, known, *variety]
    triggers = [option.input for option in entered]
    triggers += [one.change for one in (user, hidden, between, linked)]
    asked: list[Any] = [user, k, exclude_seen, genre, hidden, between, known, *variety]
    on(triggers, show(picks), asked, [top])
    bounds = first_year, last_year
    return UserTab(user, k, genre, exclude_seen, bounds, between, known, variety, linked, note, top)


def address(user_id: str, options: ListOptions, known: str) -> dict[str, object]:
    """The query of the page's address that shows a list; what is as usual is left out.

    `known` is one of `popularity_bands`. `links.py` reads it.
    """
    variety = options.variety or Variety()
    asked = {
        "user": user_id,
        "tab": "user",
        "k": options.top_k,
        "genre": options.genre,
        "from": options.min_year,
        "to": options.max_year,
        "known": short_name(known) if options.min_ratings or options.max_ratings else None,
        "rated": None if options.exclude_seen else "listed",
        "diversity": f"{variety.diversity:g}" if variety.diversity else None,
        "surprise": f"{variety.surprise:g}" if variety.surprise else None,
        "max_per_category": variety.max_per_category,
    }
    return {name: value for name, value in asked.items() if value not in (None, "")}


def short_name(band: str) -> str:
    """The name of a band of `popularity_bands` in an address: "well" for "Well known: …"."""
    return band.partition(" ")[0].lower()


def clamped(year: int, years: tuple[int, int]) -> int:
    """A bound brought into the years of the data."""
    return min(max(year, years[0]), years[1])
