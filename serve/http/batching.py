"""Recommendations that wait at the same time are computed in one run of the graph.

A run over many users costs each of them less: the item table is read once for all. Nobody is made to wait for
a batch to fill: it holds whoever has arrived while the one before was computed, under light load one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from serve.runtime.recommender import Recommender

Compute = Callable[[Callable[[], list["UserList"]]], Awaitable[list["UserList"]]]
"""Runs what may take a while: on the event loop, or in a thread."""

# A larger batch is hardly cheaper for each of its users, and all of them wait for its end.
MAX_USERS = 32


@dataclass(frozen=True, eq=False, slots=True)
class UserQuery:
    """A request for one user's list."""

    user_index: int
    """0: the average user."""
    top_k: int
    """From 1 to the K of the graph."""
    exclude_seen: bool
    exclude_item_indices: np.ndarray
    """int64 [n]; more to leave out."""


@dataclass(frozen=True, eq=False, slots=True)
class UserList:
    """The best items of one user, best first; at most as many as were asked for."""

    item_ids: list[Any]
    item_indices: list[int]
    scores: list[float]


class Batcher:
    """Gathers the queries to one model. Belongs to one event loop."""

    def __init__(self, recommender: Recommender, compute: Compute) -> None:
        # No reference to the model, which holds this batcher: a cycle would keep old bundles in memory.
        self._recommender, self._compute = recommender, compute
        self._waiting: list[tuple[UserQuery, asyncio.Future[UserList]]] = []
        self._task: asyncio.Task[None] | None = None

    async def recommend(self, query: UserQuery) -> UserList:
        """The best items of one user; the same as alone, but for the rounding of float32 sums."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[UserList] = loop.create_future()
        self._waiting.append((query, future))
        if self._task is None:
            self._task = loop.create_task(self._work())
        return await future

    async def _work(self) -> None:
        # A task begins after all that has arrived by now: those requests are counted, and wait here.
        while self._waiting:
            batch, self._waiting = self._waiting[:MAX_USERS], self._waiting[MAX_USERS:]
            try:
                await self._answer(batch)
            except Exception:  # noqa: BLE001  whatever it is, it may be the fault of one query alone
                for single in batch:
                    await self._answer_alone(single)
            if self._waiting:
                # Those who have arrived meanwhile join the next batch.
                await asyncio.sleep(0)
        self._task = None

    async def _answer(self, batch: Sequence[tuple[UserQuery, asyncio.Future[UserList]]]) -> None:
        queries = [query for query, _ in batch]
        lists = await self._compute(partial(rank_together, self._recommender, queries))
        for (_, future), found in zip(batch, lists, strict=True):
            if not future.done():  # the client may have gone
                future.set_result(found)

    async def _answer_alone(self, single: tuple[UserQuery, asyncio.Future[UserList]]) -> None:
        try:
            await self._answer([single])
        except Exception as error:  # noqa: BLE001  the one who waits gets it
            if not single[1].done():
                single[1].set_exception(error)


def rank_together(recommender: Recommender, queries: Sequence[UserQuery]) -> list[UserList]:
    """The lists of all queries, from one run."""
    top, scores = recommender.rank(
        np.array([query.user_index for query in queries]),
        max(query.top_k for query in queries),
        exclude_seen=np.array([query.exclude_seen for query in queries]),
        exclude_item_indices=[query.exclude_item_indices for query in queries],
    )  # [B, k] both
    ids = recommender.items.ids.ids(top)
    lists = []
    for query, *row in zip(queries, ids.tolist(), top.tolist(), scores.tolist(), strict=True):
        n = query.top_k
        if 0 in row[1][:n]:  # no item is left
            n = row[1].index(0)
        lists.append(UserList(*(column[:n] for column in row)))
    return lists
