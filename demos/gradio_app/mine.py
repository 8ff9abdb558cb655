"""What a new user has rated and hidden: kept in the browser, and worth no more than what a browser sends."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from serve.bundle.items import Catalogue

LARGEST = 5000
"""Ratings and hidden items that are kept."""
N_UNDO = 20

Kept = dict[str, Any]
"""`Mine` as JSON."""


class Before(msgspec.Struct, frozen=True):
    """An item before it was rated or hidden."""

    item_id: str
    rating: float | None
    hidden: bool


class Mine(msgspec.Struct, frozen=True):
    """Ratings and hidden items by the text of their ids, the newest last, and what to undo."""

    ratings: dict[str, float] = {}
    hidden: list[str] = []
    undo: list[Before] = []

    @classmethod
    def of(cls, kept: object) -> Mine:
        """What the browser has kept; nothing where that is no such record."""
        try:
            mine = msgspec.convert(kept, cls)
        except msgspec.ValidationError:
            return cls()
        return mine if max(len(mine.ratings), len(mine.hidden), len(mine.undo)) <= LARGEST else cls()

    def kept(self) -> Kept:
        """For the browser."""
        found: Kept = msgspec.to_builtins(self)
        return found

    def rate(self, item_id: str, rating: float | None) -> Mine:
        """With another rating of an item, the newest; None takes its rating back."""
        others = {key: value for key, value in self.ratings.items() if key != item_id}
        ratings = others if rating is None else {**others, item_id: rating}
        return self._with(item_id, dict(list(ratings.items())[-LARGEST:]), self.hidden)

    def hide(self, item_id: str) -> Mine:
        """Without an item."""
        others = [key for key in self.hidden if key != item_id]
        return self._with(item_id, self.ratings, [*others, item_id][-LARGEST:])

    def add(self, ratings: Mapping[str, float]) -> Mine:
        """With the ratings of a file; there is nothing to undo then."""
        others = {key: value for key, value in self.ratings.items() if key not in ratings}
        return Mine(dict([*others.items(), *ratings.items()][-LARGEST:]), self.hidden)

    def undone(self) -> Mine:
        """Before the last rating or hiding."""
        if not self.undo:
            return self
        last = self.undo[-1]
        ratings = {key: value for key, value in self.ratings.items() if key != last.item_id}
        hidden = [key for key in self.hidden if key != last.item_id]
        if last.rating is not None:
            ratings[last.item_id] = last.rating
        return Mine(ratings, [*hidden, last.item_id] if last.hidden else hidden, self.undo[:-1])

    def resolved(self, items: Catalogue, scale: tuple[float, float]) -> tuple[dict[int, float], list[int]]:
        """Item index -> rating on the scale, and the indices of hidden items: of items of the bundle."""
        low, high = scale
        rated = {items.ids.lookup_text(key): value for key, value in self.ratings.items()}
        return (
            {index: value for index, value in rated.items() if index and low <= value <= high},
            [index for index in map(items.ids.lookup_text, self.hidden) if index],
        )

    def _with(self, item_id: str, ratings: dict[str, float], hidden: list[str]) -> Mine:
        before = Before(item_id, self.ratings.get(item_id), item_id in self.hidden)
        return Mine(ratings, hidden, [*self.undo, before][-N_UNDO:])
