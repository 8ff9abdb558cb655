"""New here: recommendations for a new user from a few ratings, or from answers to a few questions."""

from __future__ import annotations

from functools import partial
from typing import Any

import gradio as gr
import numpy as np
from markupsafe import Markup

from demos.gradio_app import cards
from demos.gradio_app.page import find_items, html, notice, on, search_box, show
from demos.gradio_app.showcase import Showcase
from demos.report.render import number
from serve import Profiles
from serve.runtime.profiles import Answer

ANSWERS: dict[str, Answer] = {"Like": "like", "Dislike": "dislike", "Not seen": None}
NOT_RATED = "Until you have rated something, this is what the average user gets."
NO_FOLD_IN = (
    "This model can't fold new ratings in (an MLP has no closed form). What you rate is left out of the "
    "list, which is the average user's."
)

Given = dict[str, float]
"""Item index (JSON keys are text) -> rating."""


def newcomer_tab(showcase: Showcase) -> None:
    """Build the tab."""
    if showcase.profiles is None:
        _rating(showcase)
        return
    with gr.Tabs():
        with gr.Tab("Rate a few"):
            _rating(showcase)
        with gr.Tab("Answer questions"):
            _questions(showcase, showcase.profiles)


def rating_choices(low: float, high: float) -> list[float]:
    """The ratings to offer on a scale: whole numbers if it has 3 to 10 of them, else five steps."""
    whole = range(int(np.ceil(low)), int(np.floor(high)) + 1)
    if 3 <= len(whole) <= 10:
        return [float(value) for value in whole]
    return [float(value) for value in np.unique(np.linspace(low, high, 5).round(2).clip(low, high))]


def _rating(showcase: Showcase) -> None:
    items = showcase.recommender.items

    def folded(ticked: list[str], given: Given) -> Markup:
        ratings = {int(index): given[index] for index in given if index in ticked}
        found = showcase.fold_in(ratings)
        picks = partial(cards.card, "picks", found, showcase)
        if found.known:
            return picks(f"From your {len(ratings)} rating{'s' if len(ratings) > 1 else ''}")
        why = NOT_RATED if showcase.has_fold_in else NO_FOLD_IN
        return cards.card("notice", why) + picks("For the average user")

    choices = rating_choices(*showcase.scale)
    scale = [(f"{number(value)} ★", value) for value in choices]
    given = gr.State({})
    with gr.Row(equal_height=False):
        with gr.Column(scale=2, min_width=280):
            query, note, found = search_box(showcase, "rate")
            stars = gr.Radio(scale, label="Your rating", visible=False, elem_id="rate-stars")
            add = gr.Button("Rate it", variant="primary", visible=False, elem_id="rate-add")
            mine = gr.CheckboxGroup(
                [], label="Your ratings (untick one to take it back)", visible=False, elem_id="rated"
            )
        with gr.Column(scale=3, min_width=300):
            top = html(folded([], {}), "folded")

    def search(text: str) -> tuple[object, ...]:
        note, found = find_items(showcase, text)
        visible = found["visible"]
        return note, found, gr.Radio(value=None, visible=visible), gr.Button(visible=visible)

    def rate(chosen: str | None, rating: float | None, given: Given, ticked: list[str]) -> tuple[object, ...]:
        if chosen is None or rating is None:
            why = "Choose a title first." if chosen is None else "Choose how many stars first."
            return given, gr.CheckboxGroup(), notice(why), gr.Radio()
        given = {**given, chosen: float(rating)}
        rows = [(f"{number(value)} ★  {cards.label(items[int(i)])}", i) for i, value in given.items()]
        value = [index for index in given if index in (*ticked, chosen)]
        return (
            given,
            gr.CheckboxGroup(choices=rows, value=value, visible=True),
            notice(""),
            gr.Radio(value=None),
        )

    on([query.submit], search, [query], [note, found, stars, add])
    on([add.click], rate, [found, stars, given, mine], [given, mine, note, stars], trigger_mode="once")
    # Answering does not set the boxes: the user may be clicking others meanwhile.
    on([mine.change, given.change], show(folded), [mine, given], [top])


def _questions(showcase: Showcase, profiles: Profiles) -> None:
    items = showcase.recommender.items
    asked = [question.item_index for question in profiles.questions]

    def answered(*given: str | None) -> Markup:
        answers = {index: ANSWERS.get(text or "") for index, text in zip(asked, given, strict=True)}
        place, found = showcase.answer(answers)
        if place is None:
            heading = "For the average user"
            about = cards.card(
                "notice", "Until you have answered something, this is what the average user gets."
            )
        else:
            heading = "For this profile"
            profile = profiles.profiles[place]
            likes = [cards.label(items[favourite.item_index]) for favourite in profile.favourites[:4]]
            about = cards.card("profile", place + 1, len(profiles.profiles), profile, likes)
        return about + cards.card("picks", found, showcase, heading)

    answers: list[Any] = []
    with gr.Row(equal_height=False):
        with gr.Column(scale=2, min_width=280):
            for place, index in enumerate(asked):
                label, elem_id = cards.label(items[index]), f"question-{place}"
                answers.append(gr.Radio(list(ANSWERS), value="Not seen", label=label, elem_id=elem_id))
        with gr.Column(scale=3, min_width=300):
            top = html(answered(*["Not seen"] * len(asked)), "answered")
    on([answer.change for answer in answers], show(answered), answers, [top])
