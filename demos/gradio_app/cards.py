"""The parts of the page as HTML, from a template that escapes what comes from the data."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from demos.report.render import ENVIRONMENT, render_macro
from serve.bundle.items import Item

N_GENRES = 3

card = partial(render_macro, "gradio_app/templates/cards.html.j2")
"""Render a macro of the template: its name, and its arguments."""


def label(item: Item) -> str:
    """An item as one line of text: its title, or its id where it has no title."""
    return item.title if item.title is not None else f"Item {item.item_id}"


def shown(item: Item, shared: Sequence[str] = ()) -> dict[str, object]:
    """What the template shows of an item; genres in `shared` come first and are highlighted."""
    # Names in brackets, such as MovieLens' "(no genres listed)", are not genres.
    genres = sorted((name for name in item.genres if not name.startswith("(")), key=lambda n: n not in shared)
    title = label(item).removesuffix(f" ({item.year})")
    return {"title": title, "year": item.year, "genres": genres[:N_GENRES], "shared": shared}


ENVIRONMENT.filters["shown"] = shown
