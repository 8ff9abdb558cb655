"""New here: recommendations for a new user from a few ratings, or from answers to a few questions."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import gradio as gr
import numpy as np
from markupsafe import Markup

from demos.gradio_app import cards
from demos.gradio_app.controls import variety_controls, variety_of
from demos.gradio_app.download import download
from demos.gradio_app.mine import Mine
from demos.gradio_app.page import how_many, html, on, pressed, rows, sent, show, text_box
from demos.gradio_app.profile_names import profile_names
from demos.gradio_app.showcase import Showcase
from demos.gradio_app.upload import LARGEST_FILE, read_upload
from demos.gradio_app.varied import varied
from serve import Profiles
from serve.bundle.items import Item
from serve.errors import ServeError
from serve.runtime.profiles import Answer

ANSWERS: dict[str, Answer] = {"Like": "like", "Dislike": "dislike", "Not seen": None}
N_FIRST = 12
FIRST = "Rate a few that you know: from the first star on, this list is made for you."
NO_FOLD_IN = (
    "This model can't fold new ratings in (an MLP has no closed form). What you rate is left out of the "
    "list, which is the average user's."
)


class NewcomerTab(NamedTuple):
    """What links and other tabs set or listen to."""

    offered: gr.HTML
    session: gr.State
    offer: Callable[[list[Item], Mine], gr.HTML]
    """Shows items to rate in `offered`."""


def kept_ratings(showcase: Showcase) -> gr.BrowserState:
    """What the browser keeps. Outside of tabs: Gradio loads what is in a tab when the tab is opened."""
    # Not to hide anything: with a secret of each process, what the browser keeps could not be read again.
    name = f"recsys-{showcase.recommender.manifest.data.name}"
    return gr.BrowserState({}, storage_key=name, secret="recsys")


def newcomer_tab(showcase: Showcase, page: gr.Blocks, kept: gr.BrowserState) -> NewcomerTab:
    """Build the tab; `kept` as `kept_ratings` gives it."""
    if showcase.profiles is None:
        return _rating(showcase, page, kept)
    with gr.Tabs():
        with gr.Tab("Rate a few"):
            tab = _rating(showcase, page, kept)
        with gr.Tab("Answer questions"):
            _questions(showcase, showcase.profiles)
    return tab


def rating_choices(low: float, high: float) -> list[float]:
    """The ratings to offer on a scale: whole numbers if it has 3 to 10 of them, else five steps."""
    whole = range(int(np.ceil(low)), int(np.floor(high)) + 1)
    if 3 <= len(whole) <= 10:
        return [float(value) for value in whole]
    return [float(value) for value in np.unique(np.linspace(low, high, 5).round(2).clip(low, high))]


def _rating(showcase: Showcase, page: gr.Blocks, kept: gr.BrowserState) -> NewcomerTab:
    recommender, scale = showcase.recommender, showcase.scale
    items, choices = recommender.items, rating_choices(*scale)
    counts = showcase.columns.counts

    def listed(ratings: dict[int, float], hidden: list[int], k: float, *variety: Any) -> Markup:
        picks = partial(cards.card, "picks", deeds=("stars", "hide"), choices=choices)
        if not showcase.has_fold_in:
            found = showcase.fold_in(ratings, int(k), hidden, variety_of(*variety))
            return cards.card("notice", NO_FOLD_IN) + picks(found, showcase, "For the average user")
        if not ratings:
            first = [items[index] for index in varied(counts, showcase.genres, N_FIRST, hidden)]
            return cards.card("choices", "Which of these have you seen?", FIRST, first, {}, choices, True)
        found = showcase.fold_in(ratings, int(k), hidden, variety_of(*variety))
        heading = f"From your {len(ratings)} rating{'s' if len(ratings) > 1 else ''}"
        return picks(found, showcase, heading, download=download(found, "mine"))

    def drawn(mine: Mine, *asked: Any) -> tuple[Any, ...]:
        """The session, what the browser keeps, and all that is shown of both; `asked` are the options."""
        ratings, hidden = mine.resolved(items, scale)
        try:
            top = listed(ratings, hidden, *asked)
        except ServeError as error:
            top = cards.card("notice", str(error), "bad")
        rated = [items[index] for index in reversed(ratings)]
        if mine.undo and (index := items.ids.lookup_text(mine.undo[-1].item_id)):
            top = cards.card("undo", _told(mine, cards.label(items[index])), items[index]) + top
        mine_now = cards.card("choices", "Your ratings", "", rated, ratings, choices, False) if rated else ""
        return (
            mine,
            mine.kept(),
            top,
            gr.HTML(mine_now, visible=bool(rated)),
        )

    session = gr.State(Mine())
    query = text_box(
        label="Search a title" if items.has_titles else "Search an item id",
        placeholder="A few words, then Enter",
        elem_id="rate-query",
    )
    offered = rows("", "rate-found", visible=False)
    with gr.Accordion("Options", open=False, elem_id="mine-options"), gr.Row(elem_classes=["options"]):
        k = how_many(showcase.longest_list, "mine-k")
        options: list[Any] = [k, *variety_controls(showcase, "mine-")]
    with gr.Row(equal_height=False):
        with gr.Column(scale=3, min_width=320):
            top = rows(listed({}, [], *(one.value for one in options)), "folded")
        with gr.Column(scale=2, min_width=300):
            rated = rows("", "rated", visible=False)
            file = rows(cards.card("upload", LARGEST_FILE), "upload")
            report = html("", "upload-note")
    outputs = [session, kept, top, rated]

    def search(text: str, mine: Mine) -> gr.HTML:
        found, exact = showcase.search(text)
        about = "" if exact else f"Nothing is called “{text.strip()[:80]}”."
        if not text.strip():
            about = "Type a few words of a title first."
        if about and not found:
            return gr.HTML(cards.card("notice", about), visible=True)
        return offer(found, mine, "Found" if exact else f"{about} The nearest titles:")

    def offer(found: list[Item], mine: Mine, heading: str) -> gr.HTML:
        ratings, _ = mine.resolved(items, scale)
        return gr.HTML(cards.card("choices", heading, "", found, ratings, choices, False), visible=True)

    def done(mine: Mine, event: gr.EventData, *asked: Any) -> tuple[Any, ...]:
        deed, item = pressed(event, items)
        item_id = str(item.item_id)
        if deed == "hide":
            return drawn(mine.hide(item_id), *asked)
        if deed == "undo":
            return drawn(mine.undone(), *asked)
        return drawn(mine.rate(item_id, _value(sent(event, "value"), choices)), *asked)

    def found_done(mine: Mine, event: gr.EventData, *asked: Any) -> tuple[Any, ...]:
        shown = done(mine, event, *asked)
        return offer([pressed(event, items)[1]], shown[0], "Rated"), *shown

    def uploaded(mine: Mine, event: gr.EventData, *asked: Any) -> tuple[Any, ...]:
        try:
            found = read_upload(sent(event, "name"), sent(event, "content"), recommender)
        except ServeError as error:
            told = cards.card("notice", f"Not read: {error}", "bad")
            return gr.HTML(told, visible=True), *[gr.skip()] * len(outputs)
        told = cards.card("uploaded", found)
        return gr.HTML(told, visible=True), *drawn(mine.add(found.ratings), *asked)

    def _on(triggers: list[Any], answer: Any, inputs: list[Any], outputs: list[Any]) -> None:
        # One after another, none left out: each begins with what the one before has left.
        gr.on(
            triggers,
            answer,
            inputs,
            outputs,
            api_visibility="private",
            show_progress="hidden",
            trigger_mode="multiple",
            concurrency_limit=1,
            concurrency_id="mine",
        )

    def restored(found: object, *asked: Any) -> tuple[Any, ...]:
        mine, _, *shown = drawn(Mine.of(found), *asked)
        return mine, *shown

    def varied_again(mine: Mine, *asked: Any) -> Any:
        return drawn(mine, *asked)[2]

    _on([page.load], restored, [kept, *options], [session, top, rated])
    _on([top.click, rated.click], done, [session, *options], outputs)
    _on([offered.click], found_done, [session, *options], [offered, *outputs])
    _on([file.upload], uploaded, [session, *options], [report, *outputs])
    on([option.input for option in options], varied_again, [session, *options], [top])
    on([query.submit], search, [query, session], [offered])
    return NewcomerTab(offered, session, partial(offer, heading="To rate"))


def _told(mine: Mine, name: str) -> str:
    """What was done last, to the item of this name."""
    last = mine.undo[-1]
    if last.item_id in mine.hidden and not last.hidden:
        return f"Hidden: {name}."
    rating = mine.ratings.get(last.item_id)
    return f"Taken back: {name}." if rating is None else f"Rated {rating:g}: {name}."


def _value(text: object, choices: list[float]) -> float | None:
    """The rating of a button; None takes one back. Raises gr.Error: there is no such button."""
    if text is None:
        return None
    found = [value for value in choices if f"{value:g}" == text]
    if not found:
        raise gr.Error(f"no button gives the rating {text!r:.40}", print_exception=False)
    return found[0]


def _questions(showcase: Showcase, profiles: Profiles) -> None:
    items = showcase.recommender.items
    asked = [question.item_index for question in profiles.questions]
    names = profile_names(profiles, showcase.genres, showcase.columns.counts)
    groups = [
        {
            "genres": " and ".join(name.genres),
            "n_users": profile.n_users,
            "likes": [cards.label(items[index]) for index in name.item_indices],
        }
        for name, profile in zip(names, profiles.profiles, strict=True)
    ]

    def answered(k: float, diversity: float, surprise: float, most: str | None, *given: str | None) -> Markup:
        answers = {index: ANSWERS.get(text or "") for index, text in zip(asked, given, strict=True)}
        place, found = showcase.answer(answers, int(k), variety_of(diversity, surprise, most))
        if place is None:
            heading = "For the average user"
        else:
            heading = "For people like you"
        return cards.card("profiles", groups, place) + cards.card("picks", found, showcase, heading)

    answers: list[Any] = []
    with (
        gr.Accordion("Options", open=False, elem_id="questions-options"),
        gr.Row(elem_classes=["options"]),
    ):
        k = how_many(showcase.longest_list, "questions-k")
        options: list[Any] = [k, *variety_controls(showcase, "questions-")]
    with gr.Row(equal_height=False):
        with gr.Column(scale=2, min_width=280):
            for place, index in enumerate(asked):
                label, elem_id = cards.label(items[index]), f"question-{place}"
                answers.append(gr.Radio(list(ANSWERS), value="Not seen", label=label, elem_id=elem_id))
        with gr.Column(scale=3, min_width=300):
            usual = [one.value for one in options]
            top = html(answered(*usual, *["Not seen"] * len(asked)), "answered")
    changes = [*(answer.change for answer in answers), *(option.input for option in options)]
    on(changes, show(answered), [*options, *answers], [top])
