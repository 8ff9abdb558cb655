"""Lists of items as HTML. Everything goes through `element`, so nothing of the data is markup."""

from __future__ import annotations

from collections.abc import Sequence

from demos.gradio_app.showcase import Neighbours, Picks, Rated
from demos.report.axes import number
from demos.report.markup import Markup, element, join
from serve.bundle.items import Item

N_GENRES = 3
N_RATED = 60


def picks(found: Picks, scale: tuple[float, float], heading: str) -> Markup:
    """Recommendations: title, year, genres, the predicted rating as a bar."""
    if not found.picks:
        return empty("Nothing is left to recommend", "Every item of this choice has been rated already.")
    rows = [
        element("li", _item(pick.item), _bar(pick.score, scale, "predicted rating")) for pick in found.picks
    ]
    return element(
        "section",
        _head(heading, _timing(found.device, found.milliseconds)),
        element("ol", *rows, class_="items"),
        class_="list",
    )


def rated(items: Sequence[Rated], scale: tuple[float, float], heading: str) -> Markup:
    """What somebody has rated, with stars."""
    rows = [
        element("li", _item(one.item), element("div", stars(one.rating, scale), class_="measure"))
        for one in items[:N_RATED]
    ]
    more = len(items) - N_RATED
    note = element("p", f"and {more:,} more", class_="quiet") if more > 0 else None
    return element(
        "section",
        _head(heading, f"{len(items):,} ratings"),
        # It scrolls: the keyboard must get there, too.
        element("ol", *rows, class_="items plain", tabindex="0", aria_label=heading),
        note,
        class_="list history",
    )


def neighbours(found: Neighbours) -> Markup:
    """Similar items, and why."""
    rows = [
        element(
            "li",
            _item(one.item, [_why(one.shared_genres, one.n_shared_raters, one.n_raters)], one.shared_genres),
            _bar(one.cosine, (0.0, 1.0), "cosine"),
        )
        for one in found.neighbours
    ]
    about = element("div", _item(found.item), class_="chosen")
    raters = element("p", f"Rated by {_people(found.n_raters)}.", class_="quiet")
    return element(
        "section",
        _head("Most like", _timing(found.device, found.milliseconds)),
        about,
        raters,
        element("ol", *rows, class_="items"),
        class_="list",
    )


def notice(text: str, kind: str = "info") -> Markup:
    """A sentence that must not be missed."""
    return element("p", text, class_=f"notice {kind}", role="status")


def not_found(query: str, near: bool) -> Markup:
    """What is said of a search that found nothing, or only titles that are near."""
    shown = query.strip()[:80]
    if not shown:
        return notice("Type a few words of a title first.")
    return notice(f"Nothing is called “{shown}”." + (" The nearest titles:" if near else ""))


def empty(title: str, text: str) -> Markup:
    """What stands where nothing is yet."""
    return element("div", element("p", element("strong", title)), element("p", text), class_="empty")


def stars(rating: float, scale: tuple[float, float]) -> Markup:
    """A rating as stars where it is out of five, and as a number."""
    low, high = scale
    text = f"{number(round(rating, 2))} of {number(high)}"
    if low < 0 or high != 5:
        return element("span", element("b", number(round(rating, 2))), f" of {number(high)}", class_="stars")
    share = f"width:{100 * min(max(rating / high, 0.0), 1.0):.0f}%"
    drawn = element("span", "★★★★★", element("span", "★★★★★", style=share), aria_hidden="true")
    return element("span", drawn, element("b", number(round(rating, 2))), class_="stars", title=text)


def title_of(item: Item) -> tuple[str, str | None]:
    """Title and year, apart; the id where there is no title."""
    if item.title is None:
        return f"Item {item.item_id}", None if item.year is None else str(item.year)
    title, year = item.title, None if item.year is None else str(item.year)
    if year is not None and title.endswith(f" ({year})"):
        title = title[: -len(f" ({year})")]
    return title, year


def label(item: Item) -> str:
    """One line of text for an item: its title, and its id where that is all there is."""
    return item.title if item.title is not None else f"Item {item.item_id}"


def _item(item: Item, notes: Sequence[Markup] = (), highlighted: Sequence[str] = ()) -> Markup:
    title, year = title_of(item)
    genres = [name for name in item.genres if not name.startswith("(")]
    # What is shared comes first: the room is for three.
    genres.sort(key=lambda name: name not in highlighted)
    chips = [
        element("span", name, class_="chip shared" if name in highlighted else "chip")
        for name in genres[:N_GENRES]
    ]
    return element(
        "div",
        element("div", element("span", title, class_="title"), None if year is None else _year(year)),
        element("div", *chips, class_="chips") if chips else None,
        *notes,
        class_="item",
    )


def _year(year: str) -> Markup:
    return join(" ", element("span", year, class_="year"))


def _why(genres: Sequence[str], n_shared: int, n_raters: int) -> Markup:
    parts = []
    if genres:
        parts.append(f"same {'genre' if len(genres) == 1 else 'genres'}: {', '.join(genres)}")
    if n_shared:
        parts.append(f"{n_shared:,} of the {_people(n_raters)} who rated it rated both")
    else:
        parts.append(
            f"none of the {_people(n_raters)} who rated it rated both" if n_raters else "nobody has rated it"
        )
    return element("div", "; ".join(parts), class_="why")


def _people(n: int) -> str:
    return "1 person" if n == 1 else f"{n:,} people"


def _bar(value: float, scale: tuple[float, float], name: str) -> Markup:
    low, high = scale
    share = min(max((value - low) / (high - low or 1.0), 0.0), 1.0)
    return element(
        "div",
        element("span", element("span", style=f"width:{100 * share:.1f}%"), class_="bar-track"),
        element("b", f"{value:.2f}", class_="score"),
        class_="measure",
        title=f"{name} {value:.3f}",
    )


def _head(heading: str, note: str | Markup) -> Markup:
    return element("header", element("h2", heading), element("span", note, class_="quiet"))


def _timing(device: str, milliseconds: float) -> Markup:
    return element(
        "span",
        f"{device.upper()} · {milliseconds:.2f} ms",
        class_="timing",
        title="device and time of the call",
    )
