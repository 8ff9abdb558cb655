"""New here: recommendations for a new user from a few ratings, or from answers to a few questions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, cast

import gradio as gr
import numpy as np
from markupsafe import Markup

from demos.gradio_app import cards
from demos.gradio_app.controls import variety_controls, variety_of
from demos.gradio_app.download import download
from demos.gradio_app.mine import Mine
from demos.gradio_app.page import how_many, html, on, on_session, pressed, rows, sent, show, text_box
from demos.gradio_app.showcase import Showcase
from demos.gradio_app.upload import LARGEST_FILE, read_upload
from demos.gradio_app.varied import varied
from serve import Profiles
from serve.bundle.items import Item
from serve.errors import ServeError
from serve.runtime.profiles import Answer

ANSWERS: dict[str, str] = {"like": "Like", "dislike": "Dislike", "": "Not seen"}
"""The answers to a question as its buttons send them, and what the buttons say."""
N_LIKES = 4
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
    offer: Callable[[list[Item], Mine | None], gr.HTML]
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

    def begun(mine: Mine | None, found: object) -> Mine:
        """The session; it begins with what the browser has kept, before the load event, too."""
        return Mine.of(found) if mine is None else mine

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

    session = gr.State(None)
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

    def search(text: str, mine: Mine | None) -> gr.HTML:
        found, exact = showcase.search(text)
        about = "" if exact else f"Nothing is called “{text.strip()[:80]}”."
        if not text.strip():
            about = "Type a few words of a title first."
        if about and not found:
            return gr.HTML(cards.card("notice", about), visible=True)
        return offer(found, mine, "Found" if exact else f"{about} The nearest titles:")

    def offer(found: list[Item], mine: Mine | None, heading: str) -> gr.HTML:
        ratings, _ = (mine or Mine()).resolved(items, scale)
        return gr.HTML(cards.card("choices", heading, "", found, ratings, choices, False), visible=True)

    def done(session: Mine | None, found: object, event: gr.EventData, *asked: Any) -> tuple[Any, ...]:
        mine = begun(session, found)
        deed, item = pressed(event, items)
        item_id = str(item.item_id)
        if deed == "hide":
            return drawn(mine.hide(item_id), *asked)
        if deed == "undo":
            return drawn(mine.undone(), *asked)
        return drawn(mine.rate(item_id, _value(sent(event, "value"), choices)), *asked)

    def found_done(session: Mine | None, found: object, event: gr.EventData, *asked: Any) -> tuple[Any, ...]:
        shown = done(session, found, event, *asked)
        return offer([pressed(event, items)[1]], shown[0], "Rated"), *shown

    def uploaded(session: Mine | None, found: object, event: gr.EventData, *asked: Any) -> tuple[Any, ...]:
        try:
            read = read_upload(sent(event, "name"), sent(event, "content"), recommender)
        except ServeError as error:
            told = cards.card("notice", f"Not read: {error}", "bad")
            return gr.HTML(told, visible=True), *[gr.skip()] * len(outputs)
        told = cards.card("uploaded", read)
        return gr.HTML(told, visible=True), *drawn(begun(session, found).add(read.ratings), *asked)

    def restored(session: Mine | None, found: object, *asked: Any) -> tuple[Any, ...]:
        mine, _, *shown = drawn(begun(session, found), *asked)
        return mine, *shown

    def varied_again(session: Mine | None, found: object, *asked: Any) -> Any:
        return drawn(begun(session, found), *asked)[2]

    given = [session, kept, *options]
    on_session([page.load], restored, given, [session, top, rated])
    on_session([top.click, rated.click], done, given, outputs)
    on_session([offered.click], found_done, given, [offered, *outputs])
    on_session([file.upload], uploaded, given, [report, *outputs])
    on([option.input for option in options], varied_again, given, [top])
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
    asked = [items[question.item_index] for question in profiles.questions]
    groups = _groups(showcase, profiles)

    def questions(given: dict[int, Answer]) -> Markup:
        return cards.card("questions", asked, given, ANSWERS)

    def answered(given: dict[int, Answer], k: float, *variety: Any) -> Markup:
        place, found = showcase.answer(given, int(k), variety_of(*variety))
        heading = "For the average user" if place is None else "For people like you"
        return cards.card("profiles", groups, place) + cards.card("picks", found, showcase, heading)

    def done(given: dict[int, Answer], event: gr.EventData, *options: Any) -> tuple[Any, ...]:
        _, item = pressed(event, items)
        answer = sent(event, "value")
        if item not in asked or answer not in ANSWERS:
            raise gr.Error(f"no button gives the answer {answer!r:.40}", print_exception=False)
        given = {**given, item.item_index: cast(Answer, answer or None)}
        return given, questions(given), show(answered)(given, *options)

    with (
        gr.Accordion("Options", open=False, elem_id="questions-options"),
        gr.Row(elem_classes=["options"]),
    ):
        k = how_many(showcase.longest_list, "questions-k")
        options: list[Any] = [k, *variety_controls(showcase, "questions-")]
    session = gr.State({})
    with gr.Row(equal_height=False):
        with gr.Column(scale=2, min_width=320):
            form = rows(questions({}), "questions")
        with gr.Column(scale=3, min_width=300):
            top = html(answered({}, *(one.value for one in options)), "answered")
    on_session([form.click], done, [session, *options], [session, form, top])
    on([option.input for option in options], show(answered), [session, *options], [top])


def _groups(showcase: Showcase, profiles: Profiles) -> list[dict[str, Any]]:
    """What the page says of each profile; an item that several of them like names none of them."""
    items = showcase.recommender.items
    liked = Counter(one.item_index for profile in profiles.profiles for one in profile.favourites)
    return [
        {
            "genres": " and ".join(profile.genres[:2]),
            "n_users": profile.n_users,
            "likes": [
                cards.label(items[one.item_index]) for one in profile.favourites if liked[one.item_index] == 1
            ][:N_LIKES],
        }
        for profile in profiles.profiles
    ]
