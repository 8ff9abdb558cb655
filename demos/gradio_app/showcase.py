"""What the page shows, as data: the same answers for the tabs and for programs (`api.py`)."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from demos.gradio_app.columns import UserSearch, items_by_genre, raters
from serve.bundle.items import Item
from serve.errors import RequestError, UnsupportedError
from serve.runtime.profiles import Answer, Profiles
from serve.runtime.recommender import Recommender

LONGEST_LIST = 50
N_FOUND = 12


@dataclass(frozen=True)
class Pick:
    """An item of a list."""

    item: Item
    score: float
    """A predicted rating, or a cosine."""


@dataclass(frozen=True)
class Picks:
    """A list of items, best first, and how it came about."""

    picks: list[Pick]
    known: bool
    """False: it is the average user's list."""
    device: str
    milliseconds: float
    """Of the call that ranked them."""


@dataclass(frozen=True)
class Rated:
    """An item that somebody has rated."""

    item: Item
    rating: float


@dataclass(frozen=True)
class Neighbour:
    """An item that is like another, and what the two have in common."""

    item: Item
    cosine: float
    shared_genres: list[str]
    n_shared_raters: int
    """People who have rated both."""
    n_raters: int
    """People who have rated this one."""


@dataclass(frozen=True)
class Neighbours:
    """The items most like one."""

    item: Item
    n_raters: int
    neighbours: list[Neighbour]
    device: str
    milliseconds: float


class Showcase:
    """Answers about one bundle. Thread-safe, as its recommender is."""

    def __init__(self, recommender: Recommender) -> None:
        self.recommender = recommender
        self.users = UserSearch(recommender.bundle)
        self.genres = items_by_genre(recommender.bundle)
        self.has_fold_in = "fold_in" in recommender.manifest.graphs
        self.has_similar = "similar_items" in recommender.manifest.graphs
        self.longest_list = min(LONGEST_LIST, recommender.largest_k("recommend"))

    @cached_property
    def profiles(self) -> Profiles | None:
        """The premade tastes; None where the bundle has none."""
        try:
            return Profiles.of(self.recommender)
        except UnsupportedError:
            return None

    @property
    def score_range(self) -> tuple[float, float]:
        """What a predicted rating can be; the scale of the data where the model sets no bounds."""
        return self.recommender.manifest.model.score_scale or self.ratings_range

    @property
    def ratings_range(self) -> tuple[float, float]:
        """The scale of the data."""
        return self.recommender.manifest.data.ratings_range

    def rating_choices(self) -> list[float]:
        """The ratings that the page offers: whole ones where the scale has three or more, else five steps."""
        low, high = self.ratings_range
        whole = [float(value) for value in range(int(np.ceil(low)), int(np.floor(high)) + 1)]
        if 3 <= len(whole) <= 10:
            return whole
        return [float(value) for value in np.unique(np.linspace(low, high, 5).round(2).clip(low, high))]

    def warm_up(self) -> None:
        """Answer once with every graph that the page needs: loading one takes longer than what people see."""
        self.recommend(self.users.first(1)[0], 1)
        self.fold_in({1: self.ratings_range[1]}, 1)
        if self.has_similar:
            self.similar(1, 1)

    def user_index(self, user_id: str) -> int:
        """The row of a user as somebody types the id; 0 where there is none, whatever was typed."""
        return self.recommender.users.lookup_text(user_id)

    def recommend(
        self, user_id: str, top_k: int = 10, *, exclude_seen: bool = True, genre: str | None = None
    ) -> Picks:
        """The best items for a user, of all items or of one genre.

        Raises:
            RequestError: no such genre, or a list too long.
        """
        index = self.user_index(user_id)
        seen = self.recommender.seen.of_user(index) if exclude_seen else np.empty(0, np.int64)
        return self._ranked(index, top_k, seen, genre)

    def history(self, user_id: str, *, newest_first: bool = True) -> list[Rated]:
        """What a user has rated: the newest first, where the data knows; else the best first."""
        history = self.recommender.seen.history(self.user_index(user_id))
        by_rating = np.argsort(-history.ratings, kind="stable")
        order = by_rating
        if newest_first and history.timestamps is not None:
            order = by_rating[np.argsort(-history.timestamps[by_rating], kind="stable")]
        items = self.recommender.items
        return [Rated(items[int(history.item_indices[at])], float(history.ratings[at])) for at in order]

    def search(self, query: str) -> tuple[list[Item], bool]:
        """Items whose title has every word, and True; where none has, the nearest titles, and False."""
        items = self.recommender.items
        found = items.search(query, N_FOUND)
        exact = bool(found)
        if not found and query.strip() and items.has_titles:
            found = items.nearest(query.strip(), 5)
        return [items[index] for index in found], exact

    def fold_in(self, ratings: Mapping[int, float], top_k: int = 10) -> Picks:
        """Recommendations from the ratings of somebody new: item index -> rating.

        Without ratings, or where the model has no fold-in, this is the average user's list, and `known` says
        so; rated items are left out of it.

        Raises:
            RequestError: a rating off the scale, or no such item.
        """
        if not ratings or not self.has_fold_in:
            return self._ranked(0, top_k, np.array(list(ratings), np.int64), None)
        ids = [self.recommender.items[index].item_id for index in ratings]
        started = time.perf_counter()
        ranking = self.recommender.fold_in(ids, list(ratings.values()), top_k)
        elapsed = time.perf_counter() - started
        n = int(ranking.count)
        return self._picks(ranking.item_indices[:n], ranking.scores[:n], True, elapsed)

    def answer(self, answers: Mapping[int, Answer], top_k: int = 10) -> tuple[int | None, Picks]:
        """The profile that answers lead to (None: the average user), and its list.

        Raises:
            UnsupportedError: the bundle has no profiles.
            RequestError: an answer is none, or to no question.
        """
        if self.profiles is None:
            raise UnsupportedError("this bundle has no profiles. Export it again to get them.")
        place = self.profiles.match(answers)
        told = [index for index, given in answers.items() if given is not None]
        started = time.perf_counter()
        ranking = self.profiles.recommend(place, top_k, exclude_item_indices=told)
        elapsed = time.perf_counter() - started
        n = int(ranking.count)
        return place, self._picks(ranking.item_indices[:n], ranking.scores[:n], place is not None, elapsed)

    def similar(self, item_index: int, top_k: int = 10) -> Neighbours:
        """The items most like one, and what each has in common with it.

        Raises:
            RequestError: no such item, or a list too long.
            UnsupportedError: the bundle has no such graph.
        """
        items = self.recommender.items
        item = items[item_index]
        started = time.perf_counter()
        ranking = self.recommender.similar_items(item.item_id, top_k)
        elapsed = time.perf_counter() - started
        n = int(ranking.count)
        found = ranking.item_indices[:n].tolist()
        who = raters(self.recommender.bundle, [item_index, *found])
        neighbours = [
            Neighbour(
                items[index],
                float(score),
                [name for name in items[index].genres if name in item.genres and name in self.genres],
                len(np.intersect1d(who[item_index], who[index], assume_unique=True)),
                len(who[index]),
            )
            for index, score in zip(found, ranking.scores[:n].tolist(), strict=True)
        ]
        device = self.recommender.device
        return Neighbours(item, len(who[item_index]), neighbours, device, 1000 * elapsed)

    def _ranked(self, user_index: int, top_k: int, exclude: np.ndarray, genre: str | None) -> Picks:
        if isinstance(top_k, bool) or not 1 <= top_k <= self.longest_list:
            raise RequestError(f"the length of the list must lie in 1 to {self.longest_list}, got {top_k!r}")
        if genre:
            if genre not in self.genres:
                raise RequestError(f"no item has the genre {genre!r}; there are {', '.join(self.genres)}")
            every = np.arange(1, self.recommender.manifest.model.n_items + 1)
            exclude = np.union1d(exclude, np.setdiff1d(every, self.genres[genre], assume_unique=True))
        started = time.perf_counter()
        tops, scores = self.recommender.rank(
            np.array([user_index]), top_k, exclude_seen=False, exclude_item_indices=[exclude]
        )
        elapsed = time.perf_counter() - started
        n = min(int(top_k), int(np.count_nonzero(tops[0])))
        return self._picks(tops[0, :n], scores[0, :n], user_index > 0, elapsed)

    def _picks(self, indices: Sequence[int] | np.ndarray, scores: np.ndarray, known: bool, s: float) -> Picks:
        items = self.recommender.items
        picks = [Pick(items[int(index)], float(score)) for index, score in zip(indices, scores, strict=True)]
        return Picks(picks, known, self.recommender.device, 1000 * s)
