"""The parts of the page as HTML, from templates that escape what comes from the data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

from markupsafe import Markup

from demos.gradio_app.showcase import Neighbours, Picks, Rated
from demos.report.render import ENVIRONMENT, render_macro
from serve.bundle.items import Item
from serve.bundle.profiles import Profile

N_GENRES = 3
N_RATED = 60


def shown(item: Item, shared: Sequence[str] = ()) -> dict[str, object]:
    """What `entry` of the template shows of an item; genres in `shared` come first and are highlighted."""
    title, year = title_of(item)
    # Names in brackets, such as MovieLens' "(no genres listed)", are no genres.
    genres = sorted((name for name in item.genres if not name.startswith("(")), key=lambda n: n not in shared)
    return {"title": title, "year": year, "genres": genres[:N_GENRES], "shared": shared}


ENVIRONMENT.filters["shown"] = shown
_card = partial(render_macro, "gradio_app/templates/cards.html.j2")


def banner(facts: str) -> Markup:
    """The head of the page."""
    return _card("banner", facts)


def picks(found: Picks, scale: tuple[float, float], heading: str) -> Markup:
    """Recommendations: title, year, genres, the predicted rating as a bar."""
    if not found.picks:
        return empty("Nothing is left to recommend", "Every item of this choice has been rated already.")
    return _card("picks", found, scale, heading)


def rated(items: Sequence[Rated], scale: tuple[float, float], heading: str) -> Markup:
    """What somebody has rated, with stars."""
    return _card("rated", items[:N_RATED], max(0, len(items) - N_RATED), scale, heading)


def neighbours(found: Neighbours) -> Markup:
    """Similar items, and what they have in common with the one that is asked about."""
    return _card("neighbours", found)


def profile(place: int, n_profiles: int, found: Profile, likes: Sequence[str]) -> Markup:
    """The profile that is nearest to some answers; `place` counts from 0."""
    return _card("profile", place + 1, n_profiles, found.n_users, likes, found.genres)


def biases(fewest: int, lists: Mapping[str, Sequence[tuple[Item, float]]], widest: float) -> Markup:
    """Items and their biases, a list for each heading; `widest` is the longest bar."""
    rows = {heading: [(*title_of(item), bias) for item, bias in listed] for heading, listed in lists.items()}
    return _card("biases", fewest, rows, widest)


def report(content: Markup, heading: str = "", version: str = "") -> Markup:
    """Sections of the report, in its style."""
    return _card("report", content, heading, version)


def notice(text: str, kind: str = "info") -> Markup:
    """A message that a screen reader reads out."""
    return _card("notice", text, kind)


def not_found(query: str, near: bool) -> Markup:
    """The message for a search that found nothing, or only titles that are near."""
    text = query.strip()[:80]
    if not text:
        return notice("Type a few words of a title first.")
    return notice(f"Nothing is called “{text}”." + (" The nearest titles:" if near else ""))


def empty(title: str, text: str) -> Markup:
    """A placeholder where there is nothing to show."""
    return _card("empty", title, text)


def stars(rating: float, scale: tuple[float, float]) -> Markup:
    """A rating as stars where it is out of five, and as a number."""
    return _card("stars", rating, scale)


def title_of(item: Item) -> tuple[str, str | None]:
    """Title and year, apart; the id where there is no title."""
    year = None if item.year is None else str(item.year)
    if item.title is None:
        return f"Item {item.item_id}", year
    return item.title.removesuffix(f" ({year})"), year


def label(item: Item) -> str:
    """One line of text for an item: its title, and its id where that is all there is."""
    return item.title if item.title is not None else f"Item {item.item_id}"
