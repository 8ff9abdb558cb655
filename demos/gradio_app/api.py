"""The page's answers for programs: `gradio_client` calls these functions by name and gets JSON."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any, TypeVar, get_type_hints

import gradio as gr
import msgspec
from gradio.events import api

from demos.gradio_app.compared import ComparedLists
from demos.gradio_app.options import ListOptions
from demos.gradio_app.page import CONCURRENCY
from demos.gradio_app.showcase import Listing, Showcase
from demos.report.comparison import LETTERS, metric_rows, verdict
from serve import Variety
from serve.bundle.items import Item
from serve.errors import RequestError, ServeError
from serve.runtime.profiles import Answer

T = TypeVar("T")
Text = str | int
"""An id or a query; an integer stands for its text."""


def add_api(showcase: Showcase, compared: ComparedLists | None = None) -> None:
    """Offer the answers of `showcase`, and those about two bundles, in the `gr.Blocks` that is built."""
    recommender = showcase.recommender

    def item_index(item_id: Text) -> int:
        index = recommender.items.ids.lookup_one(recommender.items.ids.parse(str(item_id)))
        if not index:
            raise RequestError(f"no item has the id {item_id!r}")
        return index

    def by_index(values: Mapping[str, T]) -> dict[int, T]:
        found = {item_index(key): value for key, value in values.items()}
        if len(found) < len(values):
            raise RequestError(f"an item is named more than once in {', '.join(values):.80}")
        return found

    @_offer
    def find_users(query: Text = "") -> list[str]:
        """User ids that begin with the query, then those that contain it; at most 100."""
        return showcase.find_users(str(query))

    @_offer
    def search_items(query: Text) -> list[dict[str, Any]]:
        """Items by the words of their titles, or by id; where there are none, the nearest titles."""
        return [_item(item) for item in showcase.search(str(query))[0]]

    @_offer
    def recommend(
        user_id: Text,
        top_k: int = 10,
        exclude_seen: bool = True,
        genre: str | None = "",
        diversity: float = 0.0,
        surprise: float = 0.0,
        max_per_category: int | None = None,
    ) -> dict[str, Any]:
        """The best items for a user; `known` is false where it is the average user's list."""
        variety = Variety(diversity=diversity, surprise=surprise, max_per_category=max_per_category)
        options = ListOptions(top_k, exclude_seen, genre, variety=variety)
        return _listing(showcase.recommend(str(user_id), options))

    @_offer
    def history(user_id: Text, newest_first: bool = True) -> list[dict[str, Any]]:
        """The items that a user has rated."""
        rows = showcase.history(str(user_id), newest_first=newest_first)
        return [{**_item(item), "rating": rating} for item, rating in rows]

    @_offer
    def fold_in(
        ratings: dict[str, float],
        top_k: int = 10,
        diversity: float = 0.0,
        surprise: float = 0.0,
        max_per_category: int | None = None,
    ) -> dict[str, Any]:
        """Recommendations for a new user from ratings: item id -> rating."""
        variety = Variety(diversity=diversity, surprise=surprise, max_per_category=max_per_category)
        return _listing(showcase.fold_in(by_index(ratings), top_k, variety=variety))

    @_offer
    def answer_questions(
        answers: dict[str, Answer],
        top_k: int = 10,
        diversity: float = 0.0,
        surprise: float = 0.0,
        max_per_category: int | None = None,
    ) -> dict[str, Any]:
        """Recommendations for a new user: item id of a question -> a rating, "like", "dislike" or null."""
        variety = Variety(diversity=diversity, surprise=surprise, max_per_category=max_per_category)
        profile, listing = showcase.answer(by_index(answers), top_k, variety)
        return {"profile": profile, **_listing(listing)}

    @_offer
    def similar_items(item_id: Text, top_k: int = 10) -> dict[str, Any]:
        """The items most similar to one, and what they have in common with it."""
        found = showcase.similar(item_index(item_id), top_k)
        rows = zip(found.listing.rows, found.shared, strict=True)
        items = [
            {
                **_item(row.item),
                "cosine": row.score,
                "shared_genres": shared.genres,
                "shared_raters": shared.n_both,
            }
            for row, shared in rows
        ]
        return {**_item(found.item), "items": items}

    @_offer
    def model_card() -> dict[str, Any]:
        """The bundle's version, and its manifest's model, data, split, metrics and parity."""
        names = ("model", "data", "split", "metrics", "parity")
        card: dict[str, Any] = msgspec.to_builtins(
            {name: getattr(recommender.manifest, name) for name in names}
        )
        return {"version": recommender.bundle.version, **card}

    if compared is not None:
        _add_comparison(compared)


def _add_comparison(compared: ComparedLists) -> None:
    pair = compared.pair

    @_offer
    def compare(user_id: Text, top_k: int = 10) -> dict[str, Any]:
        """A user's lists by both bundles, and the ids of the items that are in both."""
        lists = compared.of(str(user_id), top_k)
        ids = [[row.item.item_id for row in found.rows] for found in lists]
        both = [item_id for item_id in ids[0] if item_id in ids[1]]
        named = {letter.lower(): _listing(found) for letter, found in zip(LETTERS, lists, strict=True)}
        return {**named, "in_both": both}

    @_offer
    def compare_models() -> dict[str, Any]:
        """The verdict, metrics of both (`better` is "a", "b" or null), and how far the users' lists agree."""
        a, b = (one.manifest for one in pair.both)
        metrics = {
            row.key: {
                "a": row.values[0],
                "b": row.values[1],
                "better": None if row.better is None else LETTERS[row.better].lower(),
            }
            for row in metric_rows(a, b)
        }
        found = compared.agreement
        return {
            "a": pair.names[0],
            "b": pair.names[1],
            "verdict": verdict(pair),
            "metrics": metrics,
            "agreement": {"k": found.k, "n_users": found.n_users, "mean_in_both": found.mean},
        }


def _offer(function: Callable[..., Any]) -> None:
    """Add a function to the API under its name. Arguments are checked against its annotations.

    The caller sees the message of a `ServeError`; any other error stays in the log.
    """
    hints = get_type_hints(function)

    @wraps(function)
    def answer(*args: Any) -> Any:
        try:
            # Not strict: the last annotation is that of the return value.
            named = zip(hints.items(), args, strict=False)
            return function(*(_checked(name, value, kind) for (name, kind), value in named))
        except ServeError as error:
            raise gr.Error(str(error), print_exception=False) from None

    api(answer, api_name=function.__name__, concurrency_limit=CONCURRENCY, concurrency_id="answers")


def _checked(name: str, value: Any, kind: Any) -> Any:
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise RequestError(f"{name} can't be {value!r:.80}: {error}") from None


def _item(item: Item) -> dict[str, Any]:
    return {"item_id": item.item_id, "title": item.title, "year": item.year, "genres": list(item.genres)}


def _listing(found: Listing) -> dict[str, Any]:
    items = [
        {
            **_item(row.item),
            "score": row.score,
            "rating": row.rating,
            "reasons": None if found.reasons is None else found.reasons.described(place),
        }
        for place, row in enumerate(found.rows)
    ]
    return {"known": found.known, "device": found.device, "milliseconds": found.milliseconds, "items": items}
