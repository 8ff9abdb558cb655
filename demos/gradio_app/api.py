"""The same answers for programs: `gradio_client` calls these by name, and gets JSON."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, get_type_hints

import gradio as gr
import msgspec
from gradio.events import api

from demos.gradio_app.showcase import Picks, Showcase
from serve.bundle.items import Item
from serve.errors import RequestError, ServeError
from serve.runtime.profiles import Answer

CONCURRENCY = 8

Text = str | int
"""An id or a query; what looks like a number may come as one."""


def add_api(showcase: Showcase) -> None:
    """Offer the answers of `showcase` in the `gr.Blocks` that is being built."""

    def find_users(query: Text = "") -> list[str]:
        """User ids that begin with the query, at most 100."""
        return showcase.users.find(str(query))

    def search_items(query: Text) -> list[dict[str, Any]]:
        """Items by the words of their titles, or by id; where there is none, the nearest titles."""
        return [_item(item) for item in showcase.search(str(query))[0]]

    def recommend(
        user_id: Text, top_k: int = 10, exclude_seen: bool = True, genre: str | None = ""
    ) -> dict[str, Any]:
        """The best items for a user; `known` is false where it is the average user's list."""
        found = showcase.recommend(str(user_id), top_k, exclude_seen=exclude_seen, genre=genre)
        return _picks(found)

    def history(user_id: Text, newest_first: bool = True) -> list[dict[str, Any]]:
        """What a user has rated."""
        rated = showcase.history(str(user_id), newest_first=newest_first)
        return [{**_item(one.item), "rating": one.rating} for one in rated]

    def fold_in(ratings: dict[str, float], top_k: int = 10) -> dict[str, Any]:
        """Recommendations to somebody new: item id -> rating."""
        given = {_known_item(showcase, item_id): rating for item_id, rating in ratings.items()}
        return _picks(showcase.fold_in(given, top_k))

    def answer_questions(answers: dict[str, Answer], top_k: int = 10) -> dict[str, Any]:
        """Recommendations to somebody new: item id of a question -> a rating, "like", "dislike" or null."""
        given: dict[int, Answer] = {_known_item(showcase, key): value for key, value in answers.items()}
        profile, picks = showcase.answer(given, top_k)
        return {"profile": profile, **_picks(picks)}

    def similar_items(item_id: Text, top_k: int = 10) -> dict[str, Any]:
        """The items most like one, and what they share."""
        found = showcase.similar(_known_item(showcase, item_id), top_k)
        return {
            **_item(found.item),
            "items": [
                {
                    **_item(one.item),
                    "cosine": one.cosine,
                    "shared_genres": one.shared_genres,
                    "shared_raters": one.n_shared_raters,
                }
                for one in found.neighbours
            ],
        }

    def model_card() -> dict[str, Any]:
        """What the bundle says of itself: model, data, split, metrics, parity."""
        manifest = showcase.recommender.manifest
        card = {name: getattr(manifest, name) for name in ("model", "data", "split", "metrics", "parity")}
        plain: dict[str, Any] = msgspec.to_builtins(card)
        return {"version": showcase.recommender.bundle.version, **plain}

    for function in (
        find_users,
        search_items,
        recommend,
        history,
        fold_in,
        answer_questions,
        similar_items,
        model_card,
    ):
        api(
            _told(function),
            api_name=function.__name__,
            concurrency_limit=CONCURRENCY,
            concurrency_id="answers",
        )


def _told(function: Callable[..., Any]) -> Callable[..., Any]:
    """What was wrong with a request reaches the caller; anything else stays in the log."""
    hints = get_type_hints(function)

    @wraps(function)
    def answer(*args: Any) -> Any:
        try:
            # Not strict: the last hint is that of the answer.
            named = zip(hints.items(), args, strict=False)
            return function(*(_checked(name, value, kind) for (name, kind), value in named))
        except ServeError as error:
            raise gr.Error(str(error), print_exception=False) from None

    return answer


def _checked(name: str, value: Any, kind: Any) -> Any:
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise RequestError(f"{name} can't be {value!r:.80}: {error}") from None


def _known_item(showcase: Showcase, item_id: Text) -> int:
    ids = showcase.recommender.items.ids
    index = ids.lookup_one(ids.parse(str(item_id)))
    if not index:
        raise RequestError(f"no item has the id {item_id!r}")
    return index


def _item(item: Item) -> dict[str, Any]:
    return {
        "item_id": item.item_id,
        "title": item.title,
        "year": item.year,
        "genres": list(item.genres),
    }


def _picks(found: Picks) -> dict[str, Any]:
    return {
        "known": found.known,
        "device": found.device,
        "milliseconds": found.milliseconds,
        "items": [{**_item(pick.item), "score": pick.score} for pick in found.picks],
    }
