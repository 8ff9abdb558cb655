"""What may be asked of a list: all of it in one place, for the tabs and for programs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from serve import Recommender, Variety
from serve.errors import RequestError
from serve.runtime.rules import place_of


@dataclass(frozen=True)
class ListOptions:
    """Options of a list of recommendations."""

    top_k: int = 10
    exclude_seen: bool = True
    """Leave out what the user has rated."""
    genre: str | None = None
    """Only items of this genre; None or empty: of all."""
    min_year: int | None = None
    """The earliest year; an item without a year is not listed."""
    max_year: int | None = None
    """The latest; an item without a year is listed unless `min_year` is given."""
    min_ratings: int | None = None
    """The least number of ratings of an item."""
    max_ratings: int | None = None
    """The largest."""
    hidden: tuple[int, ...] = ()
    """Indices of items to leave out."""
    variety: Variety | None = None
    """How the list differs from the best items in order; None: not at all."""


class ItemFilter:
    """What options compare: genres, years and numbers of ratings of all items.

    Args:
        recommender: Whose items.
        genres: The item indices of each genre.
        counts: int64 [n_items + 1], ratings of each item.
    """

    def __init__(self, recommender: Recommender, genres: dict[str, np.ndarray], counts: np.ndarray) -> None:
        self.genres, self.counts = genres, counts
        years = recommender.items.years or []
        self._years = np.array([np.nan, *(np.nan if year is None else year for year in years)])
        known = self._years[np.isfinite(self._years)]
        self.years = (int(known.min()), int(known.max())) if len(known) else None
        """The first and the last year; None: the data has no years."""

    def genre_of(self, name: str) -> str | None:
        """The genre of a name, in any case as in `serve.Rules`; None: there is none."""
        names = list(self.genres)
        place = place_of(name, names)
        return None if place is None else names[place]

    def excluded(self, options: ListOptions) -> np.ndarray:
        """The indices of the items that do not obey, int64; they are left out before the list is cut.

        Raises RequestError: no item has the genre, bounds that leave nothing, or data without years.
        """
        obeys = np.ones(len(self.counts), bool)
        if genre := options.genre:
            if (known := self.genre_of(genre)) is None:
                raise RequestError(f"no item has the genre {genre!r}; there are {', '.join(self.genres)}")
            obeys &= np.isin(np.arange(len(obeys)), self.genres[known])
        _check("year", options.min_year, options.max_year)
        _check("ratings", options.min_ratings, options.max_ratings)
        if options.min_year is not None or options.max_year is not None:
            if self.years is None:
                raise RequestError("the items of this bundle have no years")
            if options.min_year is not None:
                obeys &= self._years >= options.min_year
            if options.max_year is not None:
                obeys &= ~(self._years > options.max_year)
        if options.min_ratings is not None:
            obeys &= self.counts >= options.min_ratings
        if options.max_ratings is not None:
            obeys &= self.counts <= options.max_ratings
        obeys[list(options.hidden)] = False
        obeys[0] = True  # stands for no item
        return np.flatnonzero(~obeys)


def _check(name: str, low: int | None, high: int | None) -> None:
    if low is not None and high is not None and low > high:
        raise RequestError(f"min_{name} is {low}, more than max_{name}, {high}: no item lies in between")
