"""Recommendations that are computed together, against the same ones computed alone."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from serve.errors import RequestError
from serve.http.batching import Batcher, UserList, UserQuery
from serve.runtime.recommender import Recommender

# Lists that were computed together differ from single ones by the rounding of float32 sums.
TOLERANCE = 1e-5
NOTHING = np.empty(0, np.int64)


@pytest.fixture
def recommender(bundle_path: Path) -> Recommender:
    return Recommender.load(bundle_path, "cpu", threads=1)


async def at_once(work: Callable[[], Any]) -> Any:
    return work()


def check(found: UserList, query: UserQuery, recommender: Recommender) -> None:
    top, scores = recommender.rank(
        np.array([query.user_index]),
        query.top_k,
        exclude_seen=query.exclude_seen,
        exclude_item_indices=[query.exclude_item_indices],
    )
    n = np.count_nonzero(top[0])
    np.testing.assert_allclose(found.scores, scores[0, :n], atol=TOLERANCE)
    assert len(set(found.item_indices) & set(top[0].tolist())) >= 0.9 * n
    assert not set(found.item_indices) & {0, *query.exclude_item_indices.tolist()}
    assert found.item_ids == recommender.items.ids.ids(np.array(found.item_indices)).tolist()


@pytest.mark.parametrize("compute", [at_once, asyncio.to_thread], ids=["on the loop", "in a thread"])
def test_together_is_as_alone(recommender: Recommender, compute: Callable[..., Any]) -> None:
    """All users at once, each with other wishes."""
    queries = [
        UserQuery(user, 1 + user % 50, user % 3 > 0, np.array([4, 7]) if user % 2 else NOTHING)
        for user in range(len(recommender.users) + 1)
    ]
    threads = []

    def watched(work: Callable[[], Any]) -> Any:
        def do() -> Any:
            threads.append(threading.current_thread())
            return work()

        return compute(do)

    async def ask() -> list[UserList]:
        batcher = Batcher(recommender, watched)
        return await asyncio.gather(*(batcher.recommend(query) for query in queries))

    for query, found in zip(queries, asyncio.run(ask()), strict=True):
        check(found, query, recommender)
    assert len(threads) < len(queries), "nothing was computed together"
    assert (threading.current_thread() in threads) == (compute is at_once)


def test_one_bad_query_fails_alone(recommender: Recommender) -> None:
    good = [UserQuery(user, 5, True, NOTHING) for user in range(10)]
    bad = UserQuery(10**6, 5, True, NOTHING)
    queries = [*good[:5], bad, *good[5:]]

    async def ask() -> list[Any]:
        batcher = Batcher(recommender, at_once)
        asked = [batcher.recommend(query) for query in queries]
        return await asyncio.gather(*asked, return_exceptions=True)

    found = asyncio.run(ask())
    assert isinstance(found.pop(5), RequestError)
    for query, answer in zip(good, found, strict=True):
        check(answer, query, recommender)


def test_a_client_that_leaves_does_not_disturb_the_others(recommender: Recommender) -> None:
    query = UserQuery(3, 5, True, NOTHING)

    async def one_leaves() -> list[Any]:
        batcher = Batcher(recommender, at_once)
        tasks = [asyncio.create_task(batcher.recommend(query)) for _ in range(3)]
        await asyncio.sleep(0)  # they wait now
        tasks[1].cancel()
        done = await asyncio.gather(*tasks, return_exceptions=True)
        assert isinstance(done[1], asyncio.CancelledError)
        return [done[0], done[2], await batcher.recommend(query)]

    for found in asyncio.run(one_leaves()):
        check(found, query, recommender)
