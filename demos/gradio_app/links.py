"""Addresses of lists, such as /?user=42&tab=user, and the buttons that lead from one tab to another."""

from __future__ import annotations

from typing import Any

import gradio as gr

from demos.gradio_app import cards
from demos.gradio_app.mine import Mine
from demos.gradio_app.page import notice, on, pressed
from demos.gradio_app.showcase import Showcase
from demos.gradio_app.tabs.newcomer import NewcomerTab
from demos.gradio_app.tabs.similar import SimilarTab
from demos.gradio_app.tabs.user import UserTab
from serve.reading.cells import parse_integer

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
) -> None:
    """Show what the address of the page asks for: `user`, `k` and `genre`, `item`, `tab`."""
    items = showcase.recommender.items

    def opened(request: gr.Request) -> tuple[Any, ...]:
        asked = {name: str(value)[:LONGEST] for name, value in dict(request.query_params).items()}
        changes: list[Any] = [gr.skip()] * (7 if similar else 5)
        # A number, never an update: that would replace the slider by one without its `preprocess` (how_many).
        changes[2] = min(10, showcase.longest_list)
        wrong = []
        if (tab := asked.get("tab")) in names:
            changes[0] = gr.Tabs(selected=tab)
        elif tab is not None:
            wrong.append(f"There is no tab “{tab}”; there are {', '.join(names)}.")
        if (user_id := asked.get("user")) is not None:
            known = bool(showcase.recommender.users.lookup_text(user_id))
            choices = (
                list(dict.fromkeys([user_id, *showcase.find_users("")])) if known else showcase.find_users("")
            )
            changes[1] = gr.Dropdown(choices=choices, value=user_id if known else None)
            if not known:
                wrong.append(f"No user has the id “{user_id}”. An unknown user gets the average user's list.")
        if (text := asked.get("k")) is not None:
            k = parse_integer(text)
            if k is None or not 1 <= k <= showcase.longest_list:
                wrong.append(f"A list has 1 to {showcase.longest_list} items, not “{text}”.")
            else:
                changes[2] = k
        if (genre := asked.get("genre")) is not None:
            if genre in showcase.genres:
                changes[3] = genre
            else:
                wrong.append(f"No item has the genre “{genre}”.")
        if similar and (item_id := asked.get("item")) is not None:
            if index := items.ids.lookup_text(item_id):
                changes[5:] = chosen(index)
            else:
                changes[5] = notice(f"No item has the id “{item_id}”.")
        changes[4] = notice(" ".join(wrong)) if wrong else gr.skip()
        return tuple(changes)

    def chosen(index: int) -> list[Any]:
        choices = [(cards.label(items[index]), str(index))]
        return [notice(""), gr.Radio(choices=choices, value=str(index), visible=True)]

    outputs: list[Any] = [tabs, user.user, user.k, user.genre, user.note]
    lists = [user.top.click, *([similar.shown.click] if similar else [])]

    def rate(mine: Mine, event: gr.EventData) -> tuple[Any, Any]:
        deed, item = pressed(event, items)
        if deed != "rate":
            return gr.skip(), gr.skip()
        return gr.Tabs(selected="new"), newcomer.offer([item], mine)

    on(lists, rate, [newcomer.session], [tabs, newcomer.offered])
    if similar is None:
        on([page.load], opened, [], outputs)
        return
    on([page.load], opened, [], [*outputs, similar.note, similar.found])

    def neighbours(event: gr.EventData) -> list[Any]:
        deed, item = pressed(event, items)
        if deed != "similar":
            return [gr.skip()] * 3
        return [gr.Tabs(selected="similar"), *chosen(item.item_index)]

    on(lists, neighbours, [], [tabs, similar.note, similar.found])
