"""What the page shows, as data: the same answers for the tabs and for programs (`api.py`)."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from demos.gradio_app.columns import items_by_genre, raters
from serve import Profiles, Ranking, Recommender
from serve.bundle.items import Item
from serve.bundle.profiles import PROFILES_NAME
from serve.errors import RequestError, UnsupportedError
from serve.runtime.profiles import Answer

LONGEST_LIST = 50
N_FOUND = 12
N_NEAREST = 5


class Row(NamedTuple):
    """An item of a list."""

    item: Item
    score: float
    """What orders the list."""
    rating: float | None
    """The predicted rating; None: nothing predicts it."""


class Listing(NamedTuple):
    """A ranked list."""

    rows: list[Row]
    """Best first."""
    known: bool
    """False: the average user's list."""
    device: str
    milliseconds: float
    """Time of the call that ranked the items."""


class Shared(NamedTuple):
    """What an item has in common with a similar one."""

    genres: list[str]
    n_both: int
    """Users who rated both."""
    n_raters: int
    """Users who rated the similar item."""


class Similar(NamedTuple):
    """The items most similar to `item`, with cosines as scores."""

    item: Item
    n_raters: int
    listing: Listing
    shared: list[Shared]
    """One for each row of the listing."""


class Showcase:
    """Answers about one bundle. Thread-safe, as its recommender is."""

    def __init__(self, recommender: Recommender) -> None:
        self.recommender = recommender
        manifest = recommender.manifest
        self.genres = items_by_genre(recommender.bundle)
        self.profiles = Profiles.of(recommender) if PROFILES_NAME in manifest.files else None
        """None: the bundle has none."""
        self.has_fold_in = "fold_in" in manifest.graphs
        self.has_similar = "similar_items" in manifest.graphs
        self.longest_list = min(LONGEST_LIST, recommender.largest_k("recommend"))
        self.scale = manifest.data.ratings_range
        """The lowest and highest rating of the data."""
        self.list_span = None if manifest.model.lists == "ratings" else manifest.model.list_span
        """Width of the scores that order lists; None where they are predicted ratings."""

    def warm_up(self) -> None:
        """Run every graph that the page needs once, since the first run includes loading the graph."""
        self.recommend(self.find_users("")[0], 1)
        self.fold_in({1: self.scale[1]}, 1)
        if self.has_similar:
            self.similar(1, 1)

    def find_users(self, query: str, limit: int = 100) -> list[str]:
        """Ids that begin with `query`, the shortest first; then ids that contain it.

        An empty query finds the first ids of the table.
        """
        query = query.strip()
        if not query:
            return self._user_ids[:limit].to_pylist()  # type: ignore[no-any-return]
        starts = self._user_ids.filter(pc.starts_with(self._user_ids, query)).to_pylist()
        found = sorted(starts, key=lambda text: (len(text), text))
        inside = self._user_ids.filter(pc.match_substring(self._user_ids, query)).to_pylist()
        return [*found, *(text for text in inside if not text.startswith(query))][:limit]

    @cached_property
    def _user_ids(self) -> pa.Array:
        users = self.recommender.users
        return users.take(users.known_rows).cast(pa.string())

    def recommend(
        self, user_id: str, top_k: int = 10, *, exclude_seen: bool = True, genre: str | None = None
    ) -> Listing:
        """The best items for a user, of all items or of one genre; for an unknown id the average user's list.

        Raises:
            RequestError: no item has the genre, or `top_k` is out of range.
        """
        others = np.empty(0, np.int64)
        if genre:
            if genre not in self.genres:
                raise RequestError(f"no item has the genre {genre!r}; there are {', '.join(self.genres)}")
            others = np.setdiff1d(np.arange(1, len(self.recommender.items) + 1), self.genres[genre])
        return self._rank(self.recommender.users.lookup_text(user_id), top_k, others, exclude_seen)

    def history(self, user_id: str, *, newest_first: bool = True) -> list[tuple[Item, float]]:
        """A user's items and ratings, newest first where the data has times, else best first.

        Empty where the bundle does not hold them.
        """
        if self.recommender.manifest.without_seen:
            return []
        history = self.recommender.seen.history(self.recommender.users.lookup_text(user_id))
        order = np.argsort(-history.ratings, kind="stable")
        if newest_first and history.timestamps is not None:
            order = order[np.argsort(-history.timestamps[order], kind="stable")]
        return self._rows(history.item_indices[order], history.ratings[order])

    def search(self, query: str) -> tuple[list[Item], bool]:
        """Items whose titles contain every word, and True; or else the nearest titles and False."""
        items = self.recommender.items
        if found := items.search(query, N_FOUND):
            return [items[index] for index in found], True
        query = query.strip()
        near = items.nearest(query, N_NEAREST) if query and items.has_titles else []
        return [items[index] for index in near], False

    def fold_in(self, ratings: Mapping[int, float], top_k: int = 10) -> Listing:
        """Recommendations from a new user's ratings, item index -> rating; rated items are left out.

        Without ratings, or where the model has no fold-in, it is the average user's list (`known` is false).

        Raises:
            RequestError: a rating off the scale, or no such item.
        """
        if not ratings or not self.has_fold_in:
            return self._rank(0, top_k, np.array(list(ratings), np.int64))
        ids = [self.recommender.items[index].item_id for index in ratings]
        return self._listing(lambda: self.recommender.fold_in(ids, list(ratings.values()), top_k))

    def answer(self, answers: Mapping[int, Answer], top_k: int = 10) -> tuple[int | None, Listing]:
        """The place of the nearest profile (None: the average user), and its list.

        Raises:
            UnsupportedError: the bundle has no profiles.
            RequestError: an invalid answer, or an item that no question is about.
        """
        profiles = self.profiles
        if profiles is None:
            raise UnsupportedError("this bundle has no profiles. Export it again to get them.")
        place = profiles.match(answers)
        rated = [index for index, given in answers.items() if given is not None]
        return place, self._listing(lambda: profiles.recommend(place, top_k, exclude_item_indices=rated))

    def similar(self, item_index: int, top_k: int = 10) -> Similar:
        """The items most similar to one, and what each has in common with it.

        Raises:
            RequestError: no such item, or `top_k` is out of range.
            UnsupportedError: the bundle has no such graph.
        """
        item = self.recommender.items[item_index]
        listing = self._listing(lambda: self.recommender.similar_items(item.item_id, top_k))
        users = raters(self.recommender.bundle, [item_index, *(row.item.item_index for row in listing.rows)])
        own = users[item_index]
        shared = []
        for row in listing.rows:
            theirs = users[row.item.item_index]
            genres = [name for name in row.item.genres if name in item.genres and name in self.genres]
            shared.append(Shared(genres, len(np.intersect1d(own, theirs, assume_unique=True)), len(theirs)))
        return Similar(item, len(own), listing, shared)

    def _rank(self, user_index: int, top_k: int, exclude: np.ndarray, exclude_seen: bool = False) -> Listing:
        def rank() -> Ranking:
            top = self.recommender.rank(
                np.array([user_index]), top_k, exclude_seen=exclude_seen, exclude_item_indices=[exclude]
            )
            return self.recommender.name(top.row(0), user_index > 0)

        return self._listing(rank)

    def _listing(self, rank: Callable[[], Ranking]) -> Listing:
        started = time.perf_counter()
        ranking = rank()
        milliseconds = 1000 * (time.perf_counter() - started)
        n = ranking.count
        ratings = [None] * n if ranking.ratings is None else ranking.ratings[:n].tolist()
        pairs = self._rows(ranking.item_indices[:n], ranking.scores[:n])
        rows = [Row(*pair, rating) for pair, rating in zip(pairs, ratings, strict=True)]
        return Listing(rows, ranking.known, self.recommender.device, milliseconds)

    def _rows(self, indices: np.ndarray, values: np.ndarray) -> list[tuple[Item, float]]:
        items = self.recommender.items
        return [(items[index], value) for index, value in zip(indices.tolist(), values.tolist(), strict=True)]
