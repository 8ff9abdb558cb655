"""Concurrent recommendations are computed in one run of the graph.

A run over many users costs less for each of them, as the item table is read once. No request waits for a
batch to fill: a batch holds the requests that arrived while the previous one was computed, and while those
were parsed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, Protocol, TypeVar

import numpy as np

from serve.runtime.recommender import Recommender

T = TypeVar("T")

# A larger batch costs hardly less for each user, and every user waits for its end.
MAX_USERS = 32
NOTHING = np.empty(0, np.int64)


@dataclass(frozen=True, eq=False, slots=True)
class UserQuery:
    """A request for one user's list."""

    user_index: int
    """0: the average user."""
    top_k: int
    """From 1 to the K of the graph."""
    exclude_seen: bool
    exclude_item_indices: np.ndarray
    """int64 [n]; further items to exclude."""


class UserList(NamedTuple):
    """One user's items, best first; fewer than `top_k` if no more items are left."""

    item_ids: list[Any]
    item_indices: list[int]
    scores: list[float]
    ratings: list[float] | None
    """Predicted ratings; None: there are none."""
    graph: str
    """The graph that ranked them."""


class Compute(Protocol):
    """Runs a function on the event loop or in a thread."""

    async def __call__(self, work: Callable[[], T], /) -> T:
        """The result of `work`."""


class Batcher:
    """Batches the queries to one model. Belongs to one event loop."""

    def __init__(self, recommender: Recommender, compute: Compute) -> None:
        # No reference to the model, which holds this batcher: a cycle would keep old bundles in memory.
        self._recommender, self._compute = recommender, compute
        self._waiting: list[tuple[UserQuery, asyncio.Future[UserList]]] = []
        self._task: asyncio.Task[None] | None = None

    async def recommend(self, query: UserQuery) -> UserList:
        """The best items of one user; scores differ from a run of its own by float32 rounding."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[UserList] = loop.create_future()
        self._waiting.append((query, future))
        if self._task is None:
            self._task = loop.create_task(self._work())
        return await future

    async def _work(self) -> None:
        while self._waiting:
            await self._joined()
            batch, self._waiting = self._waiting[:MAX_USERS], self._waiting[MAX_USERS:]
            try:
                await self._answer(batch)
            except Exception:  # noqa: BLE001  one query may have caused it
                for single in batch:
                    await self._answer_alone(single)
        self._task = None

    async def _joined(self) -> None:
        """Let requests that have arrived join, as long as there are any: they must be parsed in any case."""
        n = 0
        while n < len(self._waiting) < MAX_USERS:
            n = len(self._waiting)
            for _ in range(2):  # turns of the event loop: one reads what has arrived, the next parses it
                await asyncio.sleep(0)

    async def _answer(self, batch: Sequence[tuple[UserQuery, asyncio.Future[UserList]]]) -> None:
        queries = [query for query, _ in batch]
        lists = await self._compute(partial(rank_together, self._recommender, queries))
        for (_, future), found in zip(batch, lists, strict=True):
            if not future.done():  # cancelled: the client has gone
                future.set_result(found)

    async def _answer_alone(self, single: tuple[UserQuery, asyncio.Future[UserList]]) -> None:
        try:
            await self._answer([single])
        except Exception as error:  # noqa: BLE001  raised in the request
            if not single[1].done():
                single[1].set_exception(error)


def rank_together(recommender: Recommender, queries: Sequence[UserQuery]) -> list[UserList]:
    """The lists of all queries, from one run."""
    exclude = [query.exclude_item_indices for query in queries]
    top = recommender.rank(
        np.array([query.user_index for query in queries]),
        max(query.top_k for query in queries),
        exclude_seen=np.array([query.exclude_seen for query in queries]),
        exclude_item_indices=exclude if any(map(len, exclude)) else None,
    )
    lengths = np.minimum(np.count_nonzero(top.indices, axis=1), [query.top_k for query in queries]).tolist()
    columns = (recommender.items.ids.ids(top.indices).tolist(), top.indices.tolist(), top.scores.tolist())
    ratings = [None] * len(queries) if top.ratings is None else top.ratings.tolist()
    return [
        UserList(i[:n], t[:n], s[:n], None if r is None else r[:n], top.graph)
        for i, t, s, r, n in zip(*columns, ratings, lengths, strict=True)
    ]
