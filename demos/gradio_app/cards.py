"""The parts of the page as HTML, from a template that escapes what comes from the data."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

from demos.gradio_app.showcase import Listing
from demos.report.render import ENVIRONMENT, render_macro
from serve import Reason, Reasons
from serve.bundle.items import Item
from serve.bundle.titles import displayed
from serve.runtime.rankings import order_of

N_GENRES = 3

card = partial(render_macro, "gradio_app/templates/cards.html.j2")
"""Render a macro of the template: its name, and its arguments."""


def label(item: Item | Reason) -> str:
    """An item as one line of text: its title, articles in front; its id where it has no title."""
    if item.title is not None:
        return displayed(item.title)
    return item.item_id if isinstance(item.item_id, str) else f"Item {item.item_id}"


def shown(item: Item, shared: Sequence[str] = ()) -> dict[str, object]:
    """What the template shows of an item; genres in `shared` come first and are highlighted."""
    # Names in brackets, such as MovieLens' "(no genres listed)", are not genres.
    genres = sorted((name for name in item.genres if not name.startswith("(")), key=lambda n: n not in shared)
    title = label(item).removesuffix(f" ({item.year})")
    return {
        "title": title,
        "year": item.year,
        "genres": genres[:N_GENRES],
        "shared": shared,
        "index": item.item_index,
    }


def widest(found: Listing) -> float:
    """The longest bar of a list: how far a predicted rating lies from the mean, in ratings."""
    far = [
        abs(row.rating - found.mean)
        for row in found.rows
        if row.rating is not None and found.mean is not None
    ]
    return max(far, default=0.0) or 1.0


def because(reasons: Reasons, place: int) -> dict[str, Any]:
    """What the template shows of the reasons for the item at a place: the ratings that add most to its score,
    what the other ratings add together, and what belongs to no rating.
    """
    told = reasons.of(place)
    named = sum(one.contribution for one in told)
    total, score = float(reasons.contributions[place].sum()), float(reasons.scores[place])
    return {
        # The same for all of them, so that they add up.
        "decimals": 2 if score == 0 or abs(score) >= 1 else min(6, 2 - math.floor(math.log10(abs(score)))),
        "ratings": [(label(one), one.rating, one.contribution) for one in told],
        "n_others": len(reasons.ratings) - len(told),
        "others": total - named,
        "rest": float(reasons.rest[place]),
        "score": score,
        "listed": None if reasons.row_scores is None else float(reasons.row_scores[place]),
    }


def in_both(a: Listing, b: Listing) -> tuple[dict[int, str], dict[int, str]]:
    """For each list, by item index, where the other one has what both have; compared by id."""
    found: list[dict[int, str]] = []
    for one, other, letter in ((a, b, "B"), (b, a, "A")):
        places = {row.item.item_id: place for place, row in enumerate(other.rows, 1)}
        found.append(
            {
                row.item.item_index: f"no. {places[row.item.item_id]} in {letter}"
                for row in one.rows
                if row.item.item_id in places
            }
        )
    return found[0], found[1]


ENVIRONMENT.filters["shown"] = shown
ENVIRONMENT.filters["because"] = because
ENVIRONMENT.globals |= {"widest_of": widest, "in_both": in_both, "order_of": order_of}
