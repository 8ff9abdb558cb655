"""The `Recommender`: ids in, ids and scores out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, Self, get_args

import numpy as np

from serve.bundle.manifest_check import score_bounds
from serve.bundle.shards import MERGE, list_graphs, shards_of
from serve.errors import RequestError, UnknownIdError, UnsupportedError
from serve.runtime import validation
from serve.runtime.batching import Each, Top, rank_rows, rank_users, score_pairs, with_ratings
from serve.runtime.given_ratings import given_ratings
from serve.runtime.item_facts import list_scores
from serve.runtime.opened import OpenedBundle
from serve.runtime.ranker import GraphRanker, Ranker, has_ratings, ranking_graph
from serve.runtime.rankings import Ranking, Scores
from serve.runtime.reasons import Reasons, check_explainable, explain, with_reasons
from serve.runtime.rules import Rules, check_left, rule_inputs
from serve.runtime.session import available_cpus
from serve.runtime.shards import EachShard, ShardsRanker
from serve.runtime.variety import Variety, checked, rerank, rerank_users

Unknown = Literal["average", "error"]
UNKNOWN = get_args(Unknown)


class Recommender(OpenedBundle):
    """A loaded bundle. Any number of threads may share it; a forked process must load its own."""

    def largest_k(self, graph: str) -> int:
        """The K of a ranking graph: its longest list. Raises UnsupportedError: there is no such graph."""
        graphs, kind = self.manifest.graphs, self.manifest.model.kind
        if graph == "recommend":  # of shards, the graph that merges their lists
            graph = list_graphs(graphs)[-1]
        if graph not in graphs:
            raise UnsupportedError(
                f"this bundle has no {graph} graph (its model is {kind}; it has {', '.join(sorted(graphs))})"
            )
        largest = graphs[graph].top_k
        assert largest is not None  # open_bundle checked
        return largest

    def list_length(self, top_k: int | None, graph: str) -> int:
        """The length of a graph's lists for `top_k`; None: ten, or the graph's K if that is less.

        Raises:
            RequestError: `top_k` is no integer from 1 to the graph's K.
            UnsupportedError: the bundle has no such graph.
        """
        return validation.top_k(top_k, self.largest_k(graph), self.manifest.model.n_items)

    def resolve(
        self, ids: Any, unknown: Unknown = "average", *, table: Literal["user", "item"] = "user"
    ) -> np.ndarray:
        """The indices of ids: int64 [n], [1] for a single id; 0 where an id is unknown.

        Args:
            ids: One id, or [n] of them.
            unknown: An id that is not in the bundle gets index 0 (the average), or raises an error.
            table: The kind of the ids.

        Raises:
            RequestError: an id of the wrong type, or another value of `unknown`.
            UnknownIdError: an id is not in the bundle, and `unknown` is "error".
        """
        if unknown not in UNKNOWN:
            raise RequestError(f"unknown must be 'average' or 'error', got {unknown!r}")
        known = self.users if table == "user" else self.items.ids
        one = validation.is_one(ids)
        index = np.array([known.lookup_one(ids)]) if one else known.lookup(ids)
        if unknown == "error" and not index.all():
            wrong = ids if one else np.asarray(ids, object)[index == 0][0]
            raise UnknownIdError(
                f"{known.name} {wrong!r} is not in this bundle ({len(known.known_rows)} are)."
            )
        return index

    def rank(
        self,
        user_index: np.ndarray,
        top_k: int | None = None,
        *,
        exclude_seen: bool | np.ndarray = True,
        exclude_item_indices: Sequence[np.ndarray] | None = None,
        rules: Rules | None = None,
        variety: Variety | None = None,
        each: Each = map,
    ) -> Top:
        """The best items of any number of users, from indices to indices, in bounded memory.

        Args:
            user_index: int64 [B], from 0 to n_users.
            top_k: Length of the lists; None: ten, or all that the bundle ranks.
            exclude_seen: Exclude the items that a user has rated: for all users, or bool [B].
            exclude_item_indices: Further items to exclude: B arrays of int64 from 0 to n_items.
            rules: What all listed items obey; see `Rules`. A list is short only where few do.
            variety: How lists differ from the best items in order; see `Variety`.
            each: Does the runs of the graph: `map`, or the `map` of an executor.

        Returns:
            Item indices, scores and predicted ratings, [B, top_k] each; see `Top`.

        Raises:
            RequestError: wrong types, shapes or ranges, or rules that no item can obey.
            SeenLeftOutError, UnsupportedError: `exclude_seen`, or rules, and the bundle has nothing for it.
        """
        variety = checked(variety)
        model, asked = self.manifest.model, rule_inputs(rules, self)
        seen = self.seen if exclude_seen is True or np.any(exclude_seen) else None
        graph = asked.graph("recommend")
        top_k = self.list_length(top_k, graph)
        user_index = validation.indices("user_index", user_index, 1, model.n_users)
        exclude = asked.denied(len(user_index))
        if exclude_item_indices is not None:
            rows = validation.exclusions(exclude_item_indices, len(user_index), model.n_items)
            exclude = rows if exclude is None else np.concatenate([exclude, rows], axis=1)
        rated_by = user_index
        if exclude_seen is not True:
            rated_by = user_index * np.asarray(exclude_seen, np.int64)  # row 0 has rated nothing
        n_ranked = top_k if variety is None else self.largest_k(graph)
        if graph == "recommend" and not self._exact and self._device == "cpu":
            graph = ranking_graph(self.manifest, len(user_index), n_ranked)
        ranker = self._ranker(graph, asked.feeds)

        def ranked(rows: slice = slice(None)) -> Top:
            out = None if exclude is None else exclude[rows]
            top = rank_users(ranker, user_index[rows], n_ranked, seen, rated_by[rows], out, each)
            return with_ratings(top, self.manifest)

        return ranked() if variety is None else rerank_users(ranked, len(user_index), top_k, variety, self)

    def name(self, top: Top, known: Any) -> Ranking:
        """`top`, the results of `rank` or a row of them, with ids; `known` and the result: see `Ranking`."""
        count: Any
        if top.indices.ndim == 1:
            count = int(np.count_nonzero(top.indices))  # without an axis, in a quarter of the time
        else:
            count = np.count_nonzero(top.indices, axis=-1)
        return Ranking(self.items.ids.listed(top.indices), *top, known, count, self.items)

    def recommend(
        self,
        user_ids: Any,
        top_k: int | None = None,
        *,
        exclude_seen: bool = True,
        exclude_item_ids: Sequence[Any] | None = None,
        rules: Rules | None = None,
        variety: Variety | None = None,
        reasons: bool = False,
        unknown: Unknown = "average",
    ) -> Ranking:
        """The items with the highest scores for a user, or for each of many.

        Args:
            user_ids: One id, or [B] of them.
            top_k: Length of the list; None: ten, or all that the bundle ranks (100 by default).
            exclude_seen: Exclude the items that the user has rated.
            exclude_item_ids: Further items to exclude: a list of ids, or for many users a list of lists. Ids
                that are not in the bundle are ignored.
            rules: What all listed items obey; see `Rules`.
            variety: How lists differ from the best items in order; see `Variety`.
            reasons: Say in `Ranking.reasons` what each rating adds to the scores; for one user.
            unknown: A user who is not in the bundle gets the average user's list, or raises an error.

        Raises:
            RequestError: wrong types, shapes or ranges, or no item obeys the rules.
            UnknownIdError: a user is not in the bundle, and `unknown` is "error".
            SeenLeftOutError, UnsupportedError: as `rank`; or reasons, and the bundle has no graph for them.
        """
        one = validation.is_one(user_ids)
        if reasons:
            check_explainable(self, one)
        user_index = self.resolve(user_ids, unknown)
        exclude = None
        if exclude_item_ids is not None:
            rows = validation.lists("exclude_item_ids", exclude_item_ids, None if one else len(user_index))
            exclude = [self.items.ids.lookup(row) for row in rows]
        top = self.rank(
            user_index,
            top_k,
            exclude_seen=exclude_seen,
            exclude_item_indices=exclude,
            rules=rules,
            variety=variety,
        )
        check_left(top, rules)
        ranking = self._named(one, user_index > 0, top)
        return with_reasons(ranking, self, *self._rated(int(user_index[0])), True) if reasons else ranking

    def score(self, user_ids: Any, item_ids: Any, *, unknown: Unknown = "average") -> Scores:
        """The scores of pairs; a single user or item is paired with each of many.

        Args:
            user_ids: One id, or [n] of them.
            item_ids: One id, or [n] of them.
            unknown: An id that is not in the bundle counts as the average, or raises an error.

        Raises:
            RequestError: wrong types, or lengths that differ.
            UnknownIdError: an id is not in the bundle, and `unknown` is "error".
        """
        one_user, one_item = validation.is_one(user_ids), validation.is_one(item_ids)
        user_index = self.resolve(user_ids, unknown)
        item_index = self.resolve(item_ids, unknown, table="item")
        if one_user != one_item:
            user_index, item_index = np.broadcast_arrays(user_index, item_index)
        scores = self.score_indices(user_index, item_index)
        known = (user_index > 0) & (item_index > 0)
        if one_user and one_item:
            return Scores(float(scores[0]), bool(known[0]))
        return Scores(scores, known)

    def score_indices(
        self, user_index: np.ndarray, item_index: np.ndarray, *, each: Each = map
    ) -> np.ndarray:
        """The scores of pairs of indices (int64 [n] both): float32 [n]; `each` and errors as for `rank`."""
        model = self.manifest.model
        user_index = validation.indices("user_index", user_index, 1, model.n_users)
        item_index = validation.indices("item_index", item_index, 1, model.n_items)
        if len(user_index) != len(item_index):
            raise RequestError(f"{len(user_index)} users, but {len(item_index)} items")
        threads = self._threads or available_cpus()
        bounds = score_bounds(self.manifest)
        return score_pairs(self._session("score"), user_index, item_index, bounds, threads, each)

    def similar_items(
        self, item_ids: Any, top_k: int | None = None, *, unknown: Unknown = "error"
    ) -> Ranking:
        """The items most like an item, by the cosine of their factors; the item itself is left out.

        Args:
            item_ids: One id, or [B] of them.
            top_k: Length of the list; None: ten, or all that the bundle ranks.
            unknown: An item that is not in the bundle raises an error, or gets the average item's neighbours.

        Raises:
            RequestError: wrong types or ranges.
            UnknownIdError: an item is not in the bundle, and `unknown` is "error".
            UnsupportedError: the bundle has no such graph.
        """
        one = validation.is_one(item_ids)
        top_k = self.list_length(top_k, "similar_items")
        item_index = self.resolve(item_ids, unknown, table="item")
        top = self._run_ranking("similar_items", {"item_index": item_index}, top_k)
        return self._named(one, item_index > 0, top)

    def fold_in(
        self,
        item_ids: Any,
        ratings: Any = None,
        top_k: int | None = None,
        *,
        rules: Rules | None = None,
        variety: Variety | None = None,
        reasons: bool = False,
    ) -> Ranking:
        """Recommendations for a new user, from a few ratings; rated items are excluded.

        Args:
            item_ids: The rated items of one user; of many, a list of lists. Without ratings, a user gets the
                average user's list. Or `{title or id: rating}` in place of both, of many a list of them.
            ratings: As many ratings, in the same form, on the scale of the data.
            top_k: Length of the list; None: ten, or all that the bundle ranks.
            rules: What all listed items obey; see `Rules`.
            variety: How lists differ from the best items in order; see `Variety`.
            reasons: Say in `Ranking.reasons` what each rating adds to the scores; for one user.

        Raises:
            RequestError: wrong types, lengths that differ, ratings off the scale, an item rated twice, no or
                several items of a title, or no item obeys the rules.
            UnknownIdError: an item is not in the bundle.
            UnsupportedError: the bundle has no such graph (an MLP has no closed form).
        """
        asked, variety = rule_inputs(rules, self), checked(variety)
        graph = asked.graph("fold_in")
        top_k = self.list_length(top_k, graph)
        one, items, values = given_ratings(self, item_ids, ratings)
        if reasons:
            check_explainable(self, one)
        feeds = {
            "item_indices": validation.padded(items, np.int64),
            "ratings": validation.padded(values, np.float32),
        }
        if (denied := asked.denied(len(items))) is not None:
            feeds["exclude_item_indices"] = denied
        n_ranked = top_k if variety is None else self.largest_k(graph)
        top = with_ratings(self._run_ranking(graph, feeds, n_ranked, asked.feeds), self.manifest)
        if variety is not None:
            top = rerank(top, top_k, variety, self)
        check_left(top, rules)
        ranking = self._named(one, np.ones(len(items), bool), top)
        return with_reasons(ranking, self, items[0], values[0]) if reasons else ranking

    def explain(self, user: Any, item_ids: Any) -> Reasons:
        """What each rating of a user adds to the scores of some items, listed or not.

        Args:
            user: An id of the bundle; or the ratings of a new user, `{title or id: rating}`.
            item_ids: The items to explain; one id, or [k] of them.

        Raises:
            RequestError: as `fold_in`.
            UnknownIdError: the user or an item is not in the bundle.
            UnsupportedError: the bundle has no reasons.
        """
        check_explainable(self, one=validation.is_one(user))
        explained = self.resolve(item_ids, "error", table="item")
        if isinstance(user, Mapping):
            _, (rated,), (ratings,) = given_ratings(self, user, None)
            return explain(self, rated, ratings, explained)
        user_index = int(self.resolve(user, "error")[0])
        return explain(self, *self._rated(user_index), explained, list_scores(self, user_index, explained))

    def _named(self, one: bool, known: np.ndarray, top: Top) -> Ranking:
        """As `name`; `one`: the request was for a single id."""
        return self.name(top.row(0), bool(known[0])) if one else self.name(top, known)

    def _rated(self, user_index: int) -> tuple[np.ndarray, np.ndarray]:
        """What a user has rated: int64 [H] and float32 [H]. Raises UnsupportedError: it was left out."""
        if self.manifest.without_seen:
            raise UnsupportedError(
                "this bundle was exported without what users have rated (--without-seen), which reasons are "
                "made of: give the ratings, as for a new user (`recsys fold-in --explain`)"
            )
        items, ratings, _ = self.seen.history(user_index)
        return items.astype(np.int64), ratings

    def graph_ranker(self, graph: str, rules: Mapping[str, np.ndarray] = {}) -> GraphRanker:
        """One of the graphs that rank for users of the bundle, with the inputs of its rules if it has some.

        Raises:
            UnsupportedError: the bundle has no such graph.
            BundleError: the graph does not answer as it must.
        """
        k, rated = self.largest_k(graph), has_ratings(self.manifest, graph)
        return GraphRanker(graph, self._session(graph), rules, self.manifest.graphs[graph].items, k, rated)

    @property
    def shards(self) -> list[str]:
        """The graphs of the shards, in order. Raises UnsupportedError: the bundle is not in shards."""
        if not (names := shards_of(self.manifest.graphs)):
            raise UnsupportedError("this bundle is not in shards: `recsys export --shards` makes one that is")
        return names

    def with_shards(self, shards: Sequence[Ranker], each: EachShard = map) -> Self:
        """The same bundle, its shards ranked by `shards` (in order), wherever these are.

        Raises:
            UnsupportedError: the bundle is not in shards.
            RequestError: it has another number of them.
        """
        if len(shards) != len(self.shards):
            raise RequestError(f"{len(shards)} shards, and the bundle has {len(self.shards)}")
        other = type(self)(self.bundle, self.device, threads=self._threads, exact=True, tf32=self.tf32)
        other.part("shards", lambda: other._shards_ranker(shards, each))
        return other

    def _ranker(self, graph: str, rules: Mapping[str, np.ndarray]) -> Ranker:
        if rules:
            return self.graph_ranker(graph, rules)
        if graph != "recommend" or MERGE not in self.manifest.graphs:
            return self.part(f"ranker of {graph}", lambda: self.graph_ranker(graph))
        return self.part("shards", self._own_shards)

    def _own_shards(self) -> ShardsRanker:
        """The shards in this process."""
        return self._shards_ranker([self.graph_ranker(name) for name in self.shards])

    def _shards_ranker(self, shards: Sequence[Ranker], each: EachShard = map) -> ShardsRanker:
        n_items, rated = self.manifest.model.n_items, has_ratings(self.manifest, MERGE)
        return ShardsRanker(shards, self._session(MERGE), n_items, self.largest_k(MERGE), rated, each)

    def _run_ranking(
        self, graph: str, feeds: dict[str, np.ndarray], top_k: int, shared: Mapping[str, np.ndarray] = {}
    ) -> Top:
        """The results of a ranking graph for any number of rows, in bounded memory."""
        rated, items = has_ratings(self.manifest, graph), self.manifest.graphs[graph].items
        k, session = self.largest_k(graph), self._session(graph)
        return rank_rows(session, graph, feeds, items, k, has_ratings=rated, shared=shared).first(top_k)
