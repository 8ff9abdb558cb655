"""New here: rate a few titles, or answer a few questions, and get recommendations at once."""

from __future__ import annotations

from typing import Any

import gradio as gr
from markupsafe import Markup

from demos.gradio_app import cards
from demos.gradio_app.page import html, on, said
from demos.gradio_app.showcase import Showcase
from demos.report.render import number
from serve.errors import ServeError
from serve.runtime.profiles import Answer, Profiles

ANSWERS: dict[str, Answer] = {"Like": "like", "Dislike": "dislike", "Not seen": None}
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


def _rating(showcase: Showcase) -> None:
    titled = showcase.recommender.items.has_titles
    scale = [(f"{number(value)} ★", value) for value in showcase.rating_choices()]
    given = gr.State({})
    with gr.Row(equal_height=False):
        with gr.Column(scale=2, min_width=280):
            query = gr.Textbox(
                label="Search a title" if titled else "Search an item id",
                placeholder="A few words, then Enter",
                max_lines=1,
                elem_id="rate-query",
            )
            note = html("", elem_id="rate-note")
            found = gr.Radio([], label="Found", visible=False, elem_id="rate-found")
            stars = gr.Radio(scale, label="Your rating", visible=False, elem_id="rate-stars")
            add = gr.Button("Rate it", variant="primary", visible=False, elem_id="rate-add")
            mine = gr.CheckboxGroup(
                [], label="Your ratings (untick one to take it back)", visible=False, elem_id="rated"
            )
        with gr.Column(scale=3, min_width=300):
            top = html(_folded(showcase, {}), elem_id="folded")

    def search(text: str) -> tuple[object, ...]:
        items, exact = showcase.search(text)
        note = said("" if exact else cards.not_found(text, bool(items)))
        if not items:
            hidden = gr.Radio(visible=False)
            return note, hidden, hidden, gr.Button(visible=False)
        choices = [(cards.label(item), str(item.item_index)) for item in items]
        shown = gr.Radio(choices=choices, value=choices[0][1], visible=True)
        return note, shown, gr.Radio(value=None, visible=True), gr.Button(visible=True)

    def rate(chosen: str | None, rating: float | None, given: Given, ticked: list[str]) -> tuple[object, ...]:
        if chosen is None or rating is None:
            why = "Choose a title first." if chosen is None else "Choose how many stars first."
            return given, gr.CheckboxGroup(), said(cards.notice(why)), gr.Radio()
        given = {**given, chosen: float(rating)}
        return given, _listed(showcase, given, [*ticked, chosen]), said(""), gr.Radio(value=None)

    def count(ticked: list[str], given: Given) -> Markup:
        return _folded(showcase, {index: rating for index, rating in given.items() if index in ticked})

    on([query.submit], search, [query], [note, found, stars, add])
    on([add.click], rate, [found, stars, given, mine], [given, mine, note, stars], trigger_mode="once")
    # The list follows the boxes, and leaves them as they are: others may have been clicked meanwhile.
    on([mine.change, given.change], count, [mine, given], [top])


def _listed(showcase: Showcase, given: Given, ticked: list[str]) -> Any:
    items = showcase.recommender.items
    choices = [
        (f"{number(rating)} ★  {cards.label(items[int(index)])}", index) for index, rating in given.items()
    ]
    return gr.CheckboxGroup(choices=choices, value=[i for i in given if i in ticked], visible=True)


def _folded(showcase: Showcase, given: Given) -> Markup:
    try:
        found = showcase.fold_in({int(index): rating for index, rating in given.items()})
    except ServeError as error:
        return cards.notice(str(error), "bad")
    told = Markup()
    if not given:
        text = "Until you have rated something, this is what the average user gets."
        told = cards.notice(text if showcase.has_fold_in else NO_FOLD_IN)
    elif not found.known:
        told = cards.notice(NO_FOLD_IN)
    n = len(given)
    heading = f"From your {n} rating{'s' if n != 1 else ''}" if found.known else "For the average user"
    return told + cards.picks(found, showcase.score_range, heading)


def _questions(showcase: Showcase, profiles: Profiles) -> None:
    items = showcase.recommender.items
    asked = [question.item_index for question in profiles.questions]
    with gr.Row(equal_height=False):
        with gr.Column(scale=2, min_width=280):
            answers = [
                gr.Radio(
                    list(ANSWERS),
                    value="Not seen",
                    label=cards.label(items[index]),
                    elem_id=f"question-{place}",
                )
                for place, index in enumerate(asked)
            ]
        with gr.Column(scale=3, min_width=300):
            top = html(_answered(showcase, profiles, {}), elem_id="answered")

    def answered(*given: str | None) -> str:
        answers = {index: ANSWERS.get(text or "") for index, text in zip(asked, given, strict=True)}
        return _answered(showcase, profiles, answers)

    on([answer.change for answer in answers], answered, answers, [top])


def _answered(showcase: Showcase, profiles: Profiles, answers: dict[int, Answer]) -> Markup:
    try:
        place, found = showcase.answer(answers)
    except ServeError as error:
        return cards.notice(str(error), "bad")
    if place is None:
        told = cards.notice("Until you have answered something, this is what the average user gets.")
        return told + cards.picks(found, showcase.score_range, "For the average user")
    profile = profiles.profiles[place]
    items = showcase.recommender.items
    likes = [cards.label(items[favourite.item_index]) for favourite in profile.favourites[:4]]
    about = cards.profile(place, len(profiles.profiles), profile, likes)
    return about + cards.picks(found, showcase.score_range, "For this profile")
