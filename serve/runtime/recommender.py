"""The `Recommender`: ids in, ids and scores out."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar, get_args

import numpy as np

from serve.bundle.bundle import Bundle, open_bundle
from serve.bundle.ids import IdIndex
from serve.bundle.items import Catalogue
from serve.bundle.manifest import Manifest
from serve.bundle.manifest_check import CALLED, score_bounds
from serve.bundle.profiles import check_profiles
from serve.bundle.seen import Seen
from serve.bundle.users import read_users
from serve.errors import RequestError, SeenLeftOutError, UnknownIdError, UnsupportedError
from serve.files.names import TABLES_NAME
from serve.runtime import validation
from serve.runtime.batching import Each, Top, rank_rows, rank_users, score_pairs, with_ratings
from serve.runtime.checked_graph import open_checked
from serve.runtime.given_ratings import given_ratings
from serve.runtime.ranker import GraphRanker, Ranker, has_ratings, ranking_graph
from serve.runtime.rankings import Ranking, Scores
from serve.runtime.rules import Rules, check_left, rule_inputs
from serve.runtime.session import Device, available_cpus, has_cuda_gpu, run_named, session_device

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

Unknown = Literal["average", "error"]
T = TypeVar("T")


class Recommender:
    """A loaded bundle. Any number of threads may share it; a forked process must load its own."""

    def __init__(
        self,
        bundle: Bundle,
        device: Device = "auto",
        *,
        threads: int | None = None,
        share_tables: bool = False,
        exact: bool = False,
    ) -> None:
        self.bundle = bundle
        self._exact = exact
        self._threads = threads
        # Tables inside the graphs' files are never mapped, so they can't be shared.
        share_tables = share_tables and TABLES_NAME in bundle.manifest.files
        self._open = partial(open_checked, bundle, threads=threads, share_tables=share_tables)
        self._device: Device = "cpu" if device == "auto" and not has_cuda_gpu() else device
        self._lock = threading.RLock()
        self._parts: dict[str, Any] = {}
        if self._device != "cpu":
            # Whether CUDA works shows only here; the other graphs then use the same device.
            self._device = session_device(self._session("recommend"))

    @classmethod
    def load(
        cls,
        path: str | Path,
        device: Device = "auto",
        *,
        threads: int | None = None,
        share_tables: bool = False,
        exact: bool = False,
    ) -> Recommender:
        """Check and load a bundle. Graphs and tables of ids are loaded at their first use.

        Args:
            path: The bundle's folder, or a link to it.
            device: "auto" takes CUDA where it works, else the CPU.
            threads: Threads of one call on the CPU; None: all CPUs that this process may use.
            share_tables: Processes on the CPU share the pages of `tables.bin`; large batches take longer.
            exact: Never use `recommend_fast.onnx`, the graph for single users of large catalogues.

        Raises:
            BundleError: the bundle is incomplete, damaged or not to be trusted.
            DeviceError: device="cuda", and CUDA does not work.
            RequestError: `device` is none of the three.
        """
        return cls(open_bundle(path), device, threads=threads, share_tables=share_tables, exact=exact)

    @property
    def device(self) -> Literal["cpu", "cuda"]:
        """The device in use."""
        assert self._device != "auto"
        return self._device

    @property
    def manifest(self) -> Manifest:
        """The bundle's manifest."""
        return self.bundle.manifest

    @property
    def predicts_ratings(self) -> bool:
        """Whether scores are predicted ratings, which `recommend` then gives beside each item."""
        return self.manifest.model.scores == "ratings"

    @property
    def users(self) -> IdIndex:
        """The user ids."""
        return self._part("users", lambda: read_users(self.bundle))

    @property
    def items(self) -> Catalogue:
        """The items: ids, titles, search."""
        file, n_items = self.bundle.file, self.manifest.model.n_items
        return self._part("items", lambda: Catalogue(file("items.parquet"), n_items))

    @property
    def seen(self) -> Seen:
        """The items that each user has rated. Raises SeenLeftOutError: the bundle does not hold them."""
        if self.manifest.without_seen:
            raise SeenLeftOutError
        file, model = self.bundle.file, self.manifest.model
        return self._part("seen", lambda: Seen(file("seen.parquet"), model.n_users, model.n_items))

    def largest_k(self, graph: str) -> int:
        """The K of a ranking graph: its longest list. Raises UnsupportedError: there is no such graph."""
        graphs, kind = self.manifest.graphs, self.manifest.model.kind
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
        if unknown not in get_args(Unknown):
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
        each: Each = map,
    ) -> Top:
        """The best items of any number of users, from indices to indices, in bounded memory.

        Args:
            user_index: int64 [B], from 0 to n_users.
            top_k: Length of the lists; None: ten, or all that the bundle ranks.
            exclude_seen: Exclude the items that a user has rated: for all users, or bool [B].
            exclude_item_indices: Further items to exclude: B arrays of int64 from 0 to n_items.
            rules: What all listed items obey; see `Rules`. A list is short only where few do.
            each: Does the runs of the graph: `map`, or the `map` of an executor.

        Returns:
            Item indices, scores and predicted ratings, [B, top_k] each; see `Top`.

        Raises:
            RequestError: wrong types, shapes or ranges, or rules that no item can obey.
            SeenLeftOutError, UnsupportedError: `exclude_seen`, or rules, and the bundle has nothing for it.
        """
        model, asked = self.manifest.model, rule_inputs(rules, self)
        seen = self.seen if exclude_seen is True or np.any(exclude_seen) else None
        graph = asked.graph("recommend")
        top_k = self.list_length(top_k, graph)
        user_index = validation.indices("user_index", user_index, 1, model.n_users)
        exclude = asked.denied(len(user_index))
        if exclude_item_indices is not None:
            rows = validation.exclusions(exclude_item_indices, len(user_index), model.n_items)
            exclude = rows if exclude is None else np.concatenate([exclude, rows], axis=1)
        rated_by = user_index * np.asarray(exclude_seen, np.int64)  # row 0 has rated nothing
        if graph == "recommend" and not self._exact and self._device == "cpu":
            graph = ranking_graph(self.manifest, len(user_index), top_k)
        top = rank_users(self._ranker(graph, asked.feeds), user_index, top_k, seen, rated_by, exclude, each)
        return with_ratings(top, self.manifest)

    def name(self, top: Top, known: Any) -> Ranking:
        """`top`, the results of `rank` or a row of them, with ids; `known` and the result: see `Ranking`."""
        count: Any = np.count_nonzero(top.indices, axis=-1)
        if top.indices.ndim == 1:
            count = int(count)
        return Ranking(self.items.ids.listed(top.indices), *top, known, count, self.items)

    def recommend(
        self,
        user_ids: Any,
        top_k: int | None = None,
        *,
        exclude_seen: bool = True,
        exclude_item_ids: Sequence[Any] | None = None,
        rules: Rules | None = None,
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
            unknown: A user who is not in the bundle gets the average user's list, or raises an error.

        Raises:
            RequestError: wrong types, shapes or ranges, or no item obeys the rules.
            UnknownIdError: a user is not in the bundle, and `unknown` is "error".
            SeenLeftOutError, UnsupportedError: as `rank`.
        """
        one = validation.is_one(user_ids)
        user_index = self.resolve(user_ids, unknown)
        exclude = None
        if exclude_item_ids is not None:
            rows = validation.lists("exclude_item_ids", exclude_item_ids, None if one else len(user_index))
            exclude = [self.items.ids.lookup(row) for row in rows]
        top = self.rank(
            user_index, top_k, exclude_seen=exclude_seen, exclude_item_indices=exclude, rules=rules
        )
        check_left(top, rules)
        return self._named(one, user_index > 0, top)

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
        self, item_ids: Any, ratings: Any = None, top_k: int | None = None, *, rules: Rules | None = None
    ) -> Ranking:
        """Recommendations for a new user, from a few ratings; rated items are excluded.

        Args:
            item_ids: The rated items of one user; of many, a list of lists. Without ratings, a user gets the
                average user's list. Or `{title or id: rating}` in place of both, of many a list of them.
            ratings: As many ratings, in the same form, on the scale of the data.
            top_k: Length of the list; None: ten, or all that the bundle ranks.
            rules: What all listed items obey; see `Rules`.

        Raises:
            RequestError: wrong types, lengths that differ, ratings off the scale, an item rated twice, no or
                several items of a title, or no item obeys the rules.
            UnknownIdError: an item is not in the bundle.
            UnsupportedError: the bundle has no such graph (an MLP has no closed form).
        """
        asked = rule_inputs(rules, self)
        graph = asked.graph("fold_in")
        top_k = self.list_length(top_k, graph)
        one, items, values = given_ratings(self, item_ids, ratings)
        feeds = {
            "item_indices": validation.padded(items, np.int64),
            "ratings": validation.padded(values, np.float32),
        }
        if (denied := asked.denied(len(items))) is not None:
            feeds["exclude_item_indices"] = denied
        top = with_ratings(self._run_ranking(graph, feeds, top_k, asked.feeds), self.manifest)
        check_left(top, rules)
        return self._named(one, np.ones(len(items), bool), top)

    def check(self, *graphs: str) -> int:
        """Open graphs, which runs their conformance cases; returns how many there are.

        Any graph is checked at its first use; without names, all that this class calls, ids and profiles are.

        Raises BundleError: a graph has no cases, or does not answer as they say; or a file is damaged.
        """
        names = graphs or [name for name in CALLED if not (self._exact and name == "recommend_fast")]
        n_cases = sum(self._checked(name)[1] for name in names if name in self.manifest.graphs)
        if not graphs:
            for ids in (self.users, self.items.ids):
                ids.lookup_one(ids.first_id)  # finds ids that repeat
            if not self.manifest.without_seen:
                self.seen.of_user(1)
            check_profiles(self.bundle)
        return n_cases

    def run_graph(self, graph: str, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Run a graph: input name -> array (types and ranks are not checked), to output name -> array."""
        return run_named(self._session(graph), feeds)

    def _named(self, one: bool, known: np.ndarray, top: Top) -> Ranking:
        """As `name`; `one`: the request was for a single id."""
        return self.name(top.row(0), bool(known[0])) if one else self.name(top, known)

    def _ranker(self, graph: str, rules: Mapping[str, np.ndarray]) -> Ranker:
        k, n_items = self.largest_k(graph), self.manifest.model.n_items
        return GraphRanker(graph, self._session(graph), rules, n_items, k, has_ratings(self.manifest, graph))

    def _run_ranking(
        self, graph: str, feeds: dict[str, np.ndarray], top_k: int, shared: Mapping[str, np.ndarray] = {}
    ) -> Top:
        """The results of a ranking graph for any number of rows, in bounded memory."""
        rated, n_items = has_ratings(self.manifest, graph), self.manifest.model.n_items
        k, session = self.largest_k(graph), self._session(graph)
        return rank_rows(session, graph, feeds, n_items, k, has_ratings=rated, shared=shared).first(top_k)

    def _session(self, graph: str) -> InferenceSession:
        return self._checked(graph)[0]

    def _checked(self, graph: str) -> tuple[InferenceSession, int]:
        """The session of a graph, and how many conformance cases it has passed."""
        return self._part(graph, lambda: self._open(graph, self._device))

    def _part(self, name: str, make: Callable[[], T]) -> T:
        """Load a part of the bundle at its first use, once for all threads."""
        part = self._parts.get(name)
        if part is None:
            with self._lock:
                part = self._parts.get(name)
                if part is None:
                    part = self._parts[name] = make()
        return part
