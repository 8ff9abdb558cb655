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

Compute = Callable[[Callable[[], list["Top"]]], Awaitable[list["Top"]]]
"""Does something that may take a while: on the event loop, or beside it."""

# A larger batch is hardly cheaper for each of its users, and all of them wait for its end.
MAX_USERS = 32


@dataclass(frozen=True, eq=False, slots=True)
class Ask:
    """One user's list, wanted."""

    user_index: int
    """0: the average user."""
    top_k: int
    """From 1 to the K of the graph."""
    exclude_seen: bool
    exclude_item_indices: np.ndarray | None
    """int64 [n]; more to leave out."""


@dataclass(frozen=True, eq=False, slots=True)
class Top:
    """The best items of one user, best first; at most as many as were asked for."""

    item_ids: list[Any]
    item_indices: list[int]
    scores: list[float]


class Batcher:
    """Gathers what is asked of one model. Belongs to one event loop."""

    def __init__(self, recommender: Recommender, compute: Compute) -> None:
        # Not the model, which has this batcher: it is to go as soon as nobody asks it any more.
        self._recommender, self._compute = recommender, compute
        self._waiting: list[tuple[Ask, asyncio.Future[Top]]] = []
        self._task: asyncio.Task[None] | None = None

    async def recommend(self, ask: Ask) -> Top:
        """The best items of one user; the same as alone, but for the rounding of float32 sums."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Top] = loop.create_future()
        self._waiting.append((ask, future))
        if self._task is None:
            self._task = loop.create_task(self._work())
        return await future

    async def _work(self) -> None:
        # A task begins after all that has arrived by now: those requests are counted, and wait here.
        while self._waiting:
            batch, self._waiting = self._waiting[:MAX_USERS], self._waiting[MAX_USERS:]
            asks = [ask for ask, _ in batch]
            try:
                tops = await self._compute(partial(answer, self._recommender, asks))
            except Exception as error:  # noqa: BLE001  each who waits gets it
                for _, future in batch:
                    if not future.done():
                        future.set_exception(error)
            else:
                for (_, future), top in zip(batch, tops, strict=True):
                    if not future.done():  # the client may have gone
                        future.set_result(top)
            if self._waiting:
                # Those who have arrived meanwhile join the next batch.
                await asyncio.sleep(0)
        self._task = None


def answer(recommender: Recommender, asks: Sequence[Ask]) -> list[Top]:
    """The lists of all, from one run."""
    nothing = np.empty(0, np.int64)
    more = [nothing if ask.exclude_item_indices is None else ask.exclude_item_indices for ask in asks]
    top, scores = recommender.rank(
        np.array([ask.user_index for ask in asks]),
        max(ask.top_k for ask in asks),
        exclude_seen=np.array([ask.exclude_seen for ask in asks]),
        exclude_item_indices=more,
    )  # [B, k] both
    rows = zip(asks, recommender.items.ids.ids(top).tolist(), top.tolist(), scores.tolist(), strict=True)
    tops = []
    for ask, ids, indices, values in rows:
        n = ask.top_k
        if 0 in indices[:n]:  # no item is left
            n = indices.index(0)
        tops.append(Top(ids[:n], indices[:n], values[:n]))
    return tops
