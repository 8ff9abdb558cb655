"""The parts that the tabs share: HTML of our own, event handlers, a search box, a slider, the style."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Sequence
from functools import wraps
from importlib.resources import files
from typing import Any, Literal

import gradio as gr
from markupsafe import Markup

from demos.gradio_app import cards
from demos.gradio_app.showcase import Showcase
from serve.bundle.items import Catalogue, Item
from serve.errors import ServeError

CONCURRENCY = 8
# matplotlib draws in one thread at a time.
_DRAWING = threading.Lock()


def html(value: str, elem_id: str) -> gr.HTML:
    """Markup of our own in the page, without scripts; hidden while it is empty."""
    return gr.HTML(
        value,
        elem_id=elem_id,
        elem_classes=["recsys"],
        apply_default_css=False,
        js_on_load=None,
        padding=False,
        visible=bool(value),
    )


def rows(value: str, elem_id: str, *, visible: bool = True) -> gr.HTML:
    """A list whose buttons are reported: `pressed` reads the event."""
    return scripted(value, elem_id, "list.js", visible=visible)


def scripted(value: str, elem_id: str, script: str, *, visible: bool = True) -> gr.HTML:
    """Markup of our own with a script of this folder, which runs once in the page."""
    return gr.HTML(
        value,
        elem_id=elem_id,
        elem_classes=["recsys"],
        apply_default_css=False,
        js_on_load=files("demos.gradio_app").joinpath(script).read_text(encoding="utf-8"),
        padding=False,
        visible=visible,
    )


def drawn(tab: gr.Tab, part: gr.HTML, draw: Callable[[], Markup]) -> None:
    """Fill a part of a tab, empty and hidden at first, when a visitor first opens the tab.

    Charts take longer to draw than the rest of the page to be built. They are drawn once for all visitors.
    """
    waiting = html(cards.card("notice", "Drawing …"), f"{part.elem_id}-waiting")
    is_filled = gr.State(False)
    made: list[Markup] = []

    def fill(filled: bool) -> tuple[object, object, bool]:
        if filled:  # what the visitor has done to it stays
            return gr.skip(), gr.skip(), True
        with _DRAWING:
            if not made:
                made.append(draw())
        return notice(""), gr.HTML(made[0], visible=True), True

    drawing = on([tab.select], fill, [is_filled], [waiting, part, is_filled], trigger_mode="once")
    told = "It can't be drawn; the server's log says why."
    drawing.failure(lambda: notice(told), [], [waiting], api_visibility="private", show_progress="hidden")


def sent(event: gr.EventData, name: str) -> object:
    """What the browser says of an event under a name; None where it says nothing, or is no browser."""
    try:
        return getattr(event, name, None)
    except TypeError:  # the event is a number, or null
        return None


def pressed(event: gr.EventData, items: Catalogue) -> tuple[str, Item]:
    """The deed and the item of a button of `rows`. Raises gr.Error: the browser sent something else."""
    deed, index = sent(event, "act"), sent(event, "item")
    text = index if isinstance(index, str) and re.fullmatch("[0-9]{1,9}", index) else "0"
    if isinstance(deed, str) and 1 <= int(text) <= len(items):
        return deed, items[int(text)]
    raise gr.Error(f"no button has the deed {deed!r:.40} and the item {index!r:.40}", print_exception=False)


def notice(text: str) -> gr.HTML:
    """New text for a notice; hidden where it is empty."""
    return gr.HTML(cards.card("notice", text) if text else "", visible=bool(text))


def text_box(**named: Any) -> gr.Textbox:
    """A box for one line, whose value is always text: a program may also send null."""
    made = gr.Textbox(max_lines=1, **named)

    def given(text: object) -> str:
        return "" if text is None else str(text)

    made.preprocess = given  # type: ignore[assignment,method-assign]
    return made


def on_session(
    triggers: Sequence[Any], answer: Callable[..., Any], inputs: Sequence[Any], outputs: Sequence[Any]
) -> None:
    """As `on`, for events that change a state of the session: one after another and none left out, since
    each begins with what the one before has left.
    """
    gr.on(
        list(triggers),
        answer,
        list(inputs),
        list(outputs),
        api_visibility="private",
        show_progress="hidden",
        trigger_mode="multiple",
        concurrency_limit=1,
        concurrency_id="session",
    )


def on(
    triggers: Sequence[Any],
    answer: Callable[..., Any],
    inputs: Sequence[Any],
    outputs: Sequence[Any],
    *,
    trigger_mode: Literal["once", "always_last"] = "always_last",
) -> Any:
    """Answer events of the page. Programs call the functions of api.py instead.

    Of the events that come while one is being answered, "always_last" answers the last (of the many steps of
    a slider), "once" none.
    """
    return gr.on(
        list(triggers),
        answer,
        list(inputs),
        list(outputs),
        api_visibility="private",
        show_progress="minimal",
        trigger_mode=trigger_mode,
        concurrency_limit=CONCURRENCY,
        concurrency_id="answers",
    )


def show(render: Callable[..., Markup]) -> Callable[..., Markup]:
    """A function that renders a part of the page; a request that can't be answered is shown as a notice."""

    @wraps(render)
    def rendered(*args: Any) -> Markup:
        try:
            return render(*args)
        except ServeError as error:
            return cards.card("notice", str(error), "bad")

    return rendered


def search_box(showcase: Showcase, name: str) -> tuple[gr.Textbox, gr.HTML, gr.Radio]:
    """A box to search items in, a notice about the search, and what `find_items` found."""
    query = text_box(
        label="Search a title" if showcase.recommender.items.has_titles else "Search an item id",
        placeholder="A few words, then Enter",
        elem_id=f"{name}-query",
    )
    note = html("", f"{name}-note")
    return query, note, gr.Radio([], label="Found", visible=False, elem_id=f"{name}-found")


def find_items(showcase: Showcase, query: str) -> tuple[gr.HTML, dict[str, Any]]:
    """The notice and the choices of a `search_box`; the best match is chosen."""
    items, exact = showcase.search(query)
    told = "Type a few words of a title first."
    if query.strip():
        told = f"Nothing is called “{query.strip()[:80]}”." + (" The nearest titles:" if items else "")
    choices = [(cards.label(item), str(item.item_index)) for item in items]
    value = choices[0][1] if choices else None
    return notice("" if exact else told), gr.update(choices=choices, value=value, visible=bool(items))


def find_users(showcase: Showcase, text: str) -> tuple[object, object]:
    """The users to choose from whose id contains a text, the first of them chosen; and a notice."""
    if found := showcase.find_users(text):
        return gr.Dropdown(choices=found, value=found[0]), notice("")
    told = f"No user id contains “{text.strip()[:80]}”. An unknown user gets the average user's list."
    return gr.Dropdown(choices=showcase.find_users(""), value=None), notice(told)


def head() -> str:
    """Elements of the page's head: the style (the report's, inside `.report`, and this page's), a script."""
    report = files("demos.report").joinpath("style.css").read_text(encoding="utf-8")
    # Without the report's own colours, which the theme sets, and its rules for paper.
    rules = report[report.index("h1 {") : report.index("@media print")]
    own = files("demos.gradio_app").joinpath("style.css").read_text(encoding="utf-8")
    script = files("demos.gradio_app").joinpath("settle.js").read_text(encoding="utf-8")
    return f"<style>\n.recsys .report {{\n{rules}}}\n{own}</style>\n<script>\n{script}</script>"


def theme() -> gr.themes.Base:
    """Quiet colours, and fonts of the system."""
    sans = [gr.themes.Font(name) for name in ("system-ui", "Segoe UI", "Roboto", "Noto Sans", "sans-serif")]
    mono = [gr.themes.Font(name) for name in ("ui-monospace", "Menlo", "Consolas", "monospace")]
    return gr.themes.Base(
        primary_hue=gr.themes.colors.blue, neutral_hue=gr.themes.colors.slate, font=sans, font_mono=mono
    ).set(
        body_background_fill="*neutral_50",
        body_background_fill_dark="#12161c",
        block_background_fill_dark="#1a2029",
        block_border_color_dark="#303945",
        border_color_primary_dark="#303945",
        input_background_fill_dark="#262e39",
        block_radius="12px",
        color_accent="*primary_700",
        color_accent_soft="*primary_100",
        body_text_color_subdued="*neutral_600",
        body_text_color_subdued_dark="*neutral_400",
        block_label_text_color="*neutral_700",
        block_label_text_color_dark="*neutral_300",
        block_title_text_color="*neutral_700",
        block_title_text_color_dark="*neutral_200",
        input_placeholder_color="*neutral_500",
        input_placeholder_color_dark="*neutral_400",
        button_primary_background_fill="*primary_700",
        button_primary_background_fill_hover="*primary_800",
        button_primary_background_fill_dark="*primary_700",
        button_primary_text_color="white",
    )


def how_many(longest: int, elem_id: str) -> gr.Slider:
    """A slider for the length of a list, from 1 to `longest`."""
    return slider(1, longest, min(10, longest), 1, label="How many", elem_id=elem_id)


def slider(low: float, high: float, usual: float, step: float, **named: Any) -> gr.Slider:
    """A slider whose value is always within its range: `usual` where the box beside it is empty.

    No event may give it an update (`gr.skip()` is one), which would replace it by one without that promise.
    """
    made = gr.Slider(low, high, value=usual, step=step, **named)

    def nearest(given: object) -> float:
        # A program may send anything; NaN is neither above nor below.
        if not isinstance(given, int | float) or given != given:
            return usual
        return min(max(given, low), high)

    # Gradio's own `preprocess` raises where the box beside the slider is empty or its number is out of range.
    made.preprocess = nearest  # type: ignore[assignment,method-assign]
    return made
