"""What the page shows, as data: the same answers for the tabs and for programs (`api.py`)."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from functools import cached_property
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from demos.gradio_app.columns import items_by_genre, raters
from demos.gradio_app.options import ItemFilter, ListOptions
from demos.report.factor_map import item_counts
from serve import Profiles, Ranking, Reasons, Recommender, Variety
from serve.bundle.items import Item
from serve.bundle.profiles import PROFILES_NAME
from serve.bundle.seen import History
from serve.errors import UnsupportedError
from serve.runtime.profiles import Answer
from serve.runtime.reasons import explain

LONGEST_LIST = 50
N_FOUND = 12
N_NEAREST = 5
# The mean of fewer ratings says little of what a user means by them.
FEWEST_FOR_MEAN = 3


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
    """Best first; with variety, scores need not fall."""
    known: bool
    """False: the average user's list."""
    device: str
    milliseconds: float
    """Time of the call that ranked the items."""
    lowest: float
    """The lowest score of the items that were ranked, most of them below the list: where bars of scores
    begin."""
    mean: float | None = None
    """The mean of the user's own ratings, where bars of predicted ratings begin; None: too few to say."""
    reasons: Reasons | None = None
    """What each of the user's ratings adds to the scores of the rows; None: the bundle does not say, or the
    user has rated nothing."""
    is_varied: bool = False
    """Whether variety has changed the order."""


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
        self.columns = ItemFilter(recommender, self.genres, item_counts(recommender.bundle))
        self.has_seen = not manifest.without_seen
        """Whether the bundle holds what users have rated."""
        first = self._rated_by(1)
        self.has_times = first is not None and first.timestamps is not None
        self.profiles = Profiles.of(recommender) if PROFILES_NAME in manifest.files else None
        """None: the bundle has none."""
        self.has_fold_in = "fold_in" in manifest.graphs
        self.has_similar = "similar_items" in manifest.graphs
        self.has_reasons = "explain" in manifest.graphs
        self.has_variety = {"item_directions", "item_support"} <= {table.name for table in manifest.tables}
        self.longest_list = min(LONGEST_LIST, recommender.largest_k("recommend"))
        self.scale = manifest.data.ratings_range
        """The lowest and highest rating of the data."""

    def warm_up(self) -> None:
        """Run every graph that the page needs once, since the first run includes loading the graph."""
        self.recommend(self.find_users("")[0], ListOptions(exclude_seen=self.has_seen))
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

    def recommend(self, user_id: str, options: ListOptions | None = None) -> Listing:
        """The best items for a user; for an unknown id the average user's list.

        Raises:
            RequestError: no item has the genre, or an option is out of range; see `ListOptions`.
        """
        options = options or ListOptions()
        others = self.columns.excluded(options)
        index = self.recommender.users.lookup_text(user_id)
        found = self._rank(index, options.top_k, others, options.exclude_seen, options.variety)
        rated = self._rated_by(index)
        if rated is None:
            return found
        return self._explained(found, rated.item_indices, rated.ratings, has_row=True)

    def history(self, user_id: str, *, newest_first: bool = True) -> list[tuple[Item, float]]:
        """A user's items and ratings, newest first where the data has times, else best first.

        Empty where the bundle does not hold them.
        """
        history = self._rated_by(self.recommender.users.lookup_text(user_id))
        if history is None:
            return []
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

    def fold_in(
        self,
        ratings: Mapping[int, float],
        top_k: int = 10,
        hidden: Collection[int] = (),
        variety: Variety | None = None,
    ) -> Listing:
        """Recommendations from a new user's ratings, item index -> rating; rated items are left out.

        So are those in `hidden`; where there are very many, the list is shorter.

        Without ratings, or where the model has no fold-in, it is the average user's list (`known` is false).

        Raises:
            RequestError: a rating off the scale, no such item, or `variety` that the items have nothing for.
        """
        if not ratings or not self.has_fold_in:
            return self._rank(0, top_k, np.array([*ratings, *hidden], np.int64), variety=variety)
        ids = [self.recommender.items[index].item_id for index in ratings]
        given, longest = list(ratings.values()), self.recommender.largest_k("fold_in")
        n = self.recommender.list_length(top_k, "fold_in")
        # The graph has no input for items to leave out but those that are rated.
        found = self._listing(
            lambda: self.recommender.fold_in(ids, given, longest, variety=variety), n, frozenset(hidden)
        )
        return self._explained(found, np.array(list(ratings)), np.array(given, np.float32))

    def answer(
        self, answers: Mapping[int, Answer], top_k: int = 10, variety: Variety | None = None
    ) -> tuple[int | None, Listing]:
        """The place of the nearest profile (None: the average user), and its list.

        Raises:
            UnsupportedError: the bundle has no profiles.
            RequestError: an invalid answer, an item that no question is about, or `variety` that the items
                have nothing for.
        """
        profiles = self.profiles
        if profiles is None:
            raise UnsupportedError("this bundle has no profiles. Export it again to get them.")
        place = profiles.match(answers)
        rated = [index for index, given in answers.items() if given is not None]
        n = self.recommender.list_length(top_k, "recommend")
        n_ranked = max(n, self.longest_list)
        return place, self._listing(
            lambda: profiles.recommend(place, n_ranked, exclude_item_indices=rated, variety=variety), n
        )

    def similar(self, item_index: int, top_k: int = 10) -> Similar:
        """The items most similar to one, and what each has in common with it.

        Raises:
            RequestError: no such item, or `top_k` is out of range.
            UnsupportedError: the bundle has no such graph.
        """
        item = self.recommender.items[item_index]
        listing = self._listing(lambda: self.recommender.similar_items(item.item_id, top_k), top_k)
        users = raters(self.recommender.bundle, [item_index, *(row.item.item_index for row in listing.rows)])
        own = users[item_index]
        shared = []
        for row in listing.rows:
            theirs = users[row.item.item_index]
            genres = [name for name in row.item.genres if name in item.genres and name in self.genres]
            shared.append(Shared(genres, len(np.intersect1d(own, theirs, assume_unique=True)), len(theirs)))
        return Similar(item, len(own), listing, shared)

    def _rated_by(self, user_index: int) -> History | None:
        """None: the bundle was exported without what users have rated."""
        return self.recommender.seen.history(user_index) if self.has_seen else None

    def _explained(
        self, found: Listing, rated: np.ndarray, ratings: np.ndarray, has_row: bool = False
    ) -> Listing:
        """A list with what the user's ratings say of it: their mean, and what each adds to a score.

        `has_row`: the list is by a row of the bundle's tables, not by the ratings.
        """
        reasons = None
        if self.has_reasons and len(rated) and found.rows:
            listed = np.array([row.item.item_index for row in found.rows])
            scores = np.array([row.score for row in found.rows], np.float32) if has_row else None
            reasons = explain(self.recommender, rated.astype(np.int64), ratings, listed, scores)
        return found._replace(mean=_mean(ratings), reasons=reasons)

    def _rank(
        self,
        user_index: int,
        top_k: int,
        exclude: np.ndarray,
        exclude_seen: bool = False,
        variety: Variety | None = None,
    ) -> Listing:
        n = self.recommender.list_length(top_k, "recommend")
        n_ranked = max(n, self.longest_list)

        def rank() -> Ranking:
            top = self.recommender.rank(
                np.array([user_index]),
                n_ranked,
                exclude_seen=exclude_seen,
                exclude_item_indices=[exclude],
                variety=variety,
            )
            return self.recommender.name(top.row(0), user_index > 0)

        return self._listing(rank, n)

    def _listing(
        self, rank: Callable[[], Ranking], top_k: int, hidden: Collection[int] = frozenset()
    ) -> Listing:
        """The first `top_k` of a ranking. Graphs rank as many as they can in any case."""
        started = time.perf_counter()
        ranking = rank()
        milliseconds = 1000 * (time.perf_counter() - started)
        indices = ranking.item_indices[: ranking.count]
        kept = np.flatnonzero(~np.isin(indices, list(hidden)))[:top_k]
        ratings = [None] * len(kept) if ranking.ratings is None else ranking.ratings[kept].tolist()
        pairs = self._rows(indices[kept], ranking.scores[kept])
        rows = [Row(*pair, rating) for pair, rating in zip(pairs, ratings, strict=True)]
        lowest = float(ranking.scores[: ranking.count].min()) if ranking.count else 0.0
        is_varied = bool((np.diff(ranking.scores[: ranking.count]) > 0).any())
        return Listing(
            rows, ranking.known, self.recommender.device, milliseconds, lowest, is_varied=is_varied
        )

    def _rows(self, indices: np.ndarray, values: np.ndarray) -> list[tuple[Item, float]]:
        items = self.recommender.items
        return [(items[index], value) for index, value in zip(indices.tolist(), values.tolist(), strict=True)]


def _mean(ratings: np.ndarray) -> float | None:
    return float(ratings.mean()) if len(ratings) >= FEWEST_FOR_MEAN else None
