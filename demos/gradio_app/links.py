"""Addresses of lists, such as /?user=42&tab=user, and the buttons that lead from one tab to another."""

from __future__ import annotations

import secrets
from typing import Any

import gradio as gr

from demos.gradio_app import cards
from demos.gradio_app.controls import LIMITS
from demos.gradio_app.mine import Mine
from demos.gradio_app.page import notice, on, pressed
from demos.gradio_app.showcase import Showcase
from demos.gradio_app.tabs.newcomer import NewcomerTab
from demos.gradio_app.tabs.similar import SimilarTab
from demos.gradio_app.tabs.user import UserTab, clamped, short_name
from demos.report.popularity import popularity_bands
from serve.reading.cells import parse_integer, parse_number

LONGEST = 200
"""Characters of a value in an address."""


def follow_links(
    showcase: Showcase,
    page: gr.Blocks,
    tabs: gr.Tabs,
    names: list[str],
    user: UserTab,
    newcomer: NewcomerTab,
    similar: SimilarTab | None,
    compared_user: gr.Dropdown | None,
) -> None:
    """Show what the address of the page asks for: a tab, a user's list (`address`), an item's neighbours."""
    items = showcase.recommender.items

    def opened(request: gr.Request) -> dict[Any, Any]:
        asked = {name: str(value)[:LONGEST] for name, value in dict(request.query_params).items()}
        wrong: list[str] = []
        changes = _options(asked, showcase, user, wrong)
        if (tab := asked.get("tab")) in names:
            changes[tabs] = gr.Tabs(selected=tab)
        elif tab is not None:
            wrong.append(f"There is no tab “{tab}”; there are {', '.join(names)}.")
        if (user_id := asked.get("user")) is not None:
            known = bool(showcase.recommender.users.lookup_text(user_id))
            choices = showcase.find_users("")
            choices = list(dict.fromkeys([user_id, *choices])) if known else choices
            for box in [user.user, *([compared_user] if compared_user else [])]:
                changes[box] = gr.Dropdown(choices=choices, value=user_id if known else None)
            if not known:
                wrong.append(f"No user has the id “{user_id}”. An unknown user gets the average user's list.")
        if similar and (item_id := asked.get("item")) is not None:
            if index := items.ids.lookup_text(item_id):
                changes |= chosen(index)
            else:
                changes[similar.note] = notice(f"No item has the id “{item_id}”.")
        if asked:
            changes[user.linked] = secrets.token_hex(4)
        if wrong:
            changes[user.note] = notice(" ".join(wrong))
        return changes

    def chosen(index: int) -> dict[Any, Any]:
        assert similar is not None
        choices = [(cards.label(items[index]), str(index))]
        return {similar.note: notice(""), similar.found: gr.Radio(choices, value=str(index), visible=True)}

    outputs: list[Any] = [tabs, user.user, user.k, user.genre, user.exclude_seen, *user.years, user.between]
    outputs += [user.known, *user.variety, user.linked, user.note]
    outputs += [compared_user] if compared_user else []
    outputs += [similar.note, similar.found] if similar else []
    on([page.load], opened, [], outputs)

    def rate(mine: Mine | None, event: gr.EventData) -> tuple[Any, Any]:
        deed, item = pressed(event, items)
        if deed != "rate":
            return gr.skip(), gr.skip()
        return gr.Tabs(selected="new"), newcomer.offer([item], mine)

    lists = [user.top.click, *([similar.shown.click] if similar else [])]
    on(lists, rate, [newcomer.session], [tabs, newcomer.offered])
    if similar is None:
        return

    def neighbours(event: gr.EventData) -> dict[Any, Any]:
        deed, item = pressed(event, items)
        if deed != "similar":
            return {tabs: gr.skip()}
        return {tabs: gr.Tabs(selected="similar"), **chosen(item.item_index)}

    on(lists, neighbours, [], [tabs, similar.note, similar.found])


def _options(asked: dict[str, str], showcase: Showcase, user: UserTab, wrong: list[str]) -> dict[Any, Any]:
    """The values of the options of a user's list; what can't be is said in `wrong`, and left as usual."""
    # Sliders always get a number, never an update: see `page.slider`.
    changes: dict[Any, Any] = {user.k: min(10, showcase.longest_list)}
    changes |= {user.variety.diversity: 0, user.variety.surprise: 0}
    if (text := asked.get("k")) is not None:
        k = parse_integer(text)
        if k is None or not 1 <= k <= showcase.longest_list:
            wrong.append(f"A list has 1 to {showcase.longest_list} items, not “{text}”.")
        else:
            changes[user.k] = k
    if (genre := asked.get("genre")) is not None:
        if (known := showcase.columns.genre_of(genre)) is not None:
            changes[user.genre] = known
        else:
            wrong.append(f"No item has the genre “{genre}”.")
    if asked.get("rated") == "listed":
        changes[user.exclude_seen] = False
    if (years := showcase.columns.years) is not None and ("from" in asked or "to" in asked):
        given = [parse_integer(asked.get(name, "")) for name in ("from", "to")]
        ends = [clamped(end if year is None else year, years) for year, end in zip(given, years, strict=True)]
        if ends[0] > ends[1]:
            wrong.append(f"No item lies between {ends[0]} and {ends[1]}.")
        else:
            changes |= dict(zip(user.years, ends, strict=True))
            changes[user.between] = [
                None if end == year else end for end, year in zip(ends, years, strict=True)
            ]
    if (known := asked.get("known")) is not None:
        bands = {short_name(label): label for label in popularity_bands(showcase.columns.counts)}
        if known in bands:
            changes[user.known] = bands[known]
        else:
            wrong.append(f"How well known is {', '.join(bands)}, not “{known}”.")
    for name, control in (("diversity", user.variety.diversity), ("surprise", user.variety.surprise)):
        if (text := asked.get(name)) is not None:
            if (weight := _weight(text, control.minimum)) is None:
                wrong.append(f"{name} is {control.minimum:g} to {control.maximum:g}, not “{text}”.")
            else:
                changes[control] = weight
    if (most := asked.get("max_per_category")) is not None:
        if most in map(str, LIMITS):
            changes[user.variety.max_per_category] = most
        else:
            wrong.append(f"max_per_category is one of {', '.join(map(str, LIMITS))}, not “{most}”.")
    return changes


def _weight(text: str, lowest: float) -> float | None:
    """A weight of variety, from `lowest` to 1; None: the text is none."""
    try:
        weight = parse_number(text)
    except ValueError:
        return None
    return weight if lowest <= weight <= 1 else None
