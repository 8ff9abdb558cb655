"""Recommendations that are computed together, against the same ones computed alone."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from serve.errors import RequestError
from serve.http.batching import NOTHING, Batcher, UserList, UserQuery
from serve.runtime.recommender import Recommender

# Batched scores differ from single ones by float32 rounding.
TOLERANCE = 1e-5


@pytest.fixture
def recommender(bundle_path: Path) -> Recommender:
    return Recommender.load(bundle_path, "cpu", threads=1)


async def at_once(work: Callable[[], Any]) -> Any:
    return work()


def check(found: UserList, query: UserQuery, recommender: Recommender) -> None:
    expected = recommender.rank(
        np.array([query.user_index]),
        query.top_k,
        exclude_seen=query.exclude_seen,
        exclude_item_indices=[query.exclude_item_indices],
    ).row(0)
    n = np.count_nonzero(expected.indices)
    item_ids, item_indices, scores, ratings, graph = found
    assert graph == "recommend"
    np.testing.assert_allclose(scores, expected.scores[:n], atol=TOLERANCE)
    if expected.ratings is None:
        assert ratings is None
    else:
        np.testing.assert_allclose(ratings, expected.ratings[:n], atol=TOLERANCE)
    assert len(set(item_indices) & set(expected.indices.tolist())) >= 0.9 * n
    assert not set(item_indices) & {0, *query.exclude_item_indices.tolist()}
    assert item_ids == recommender.items.ids.ids(np.array(item_indices)).tolist()


@pytest.mark.parametrize("compute", [at_once, asyncio.to_thread], ids=["on the loop", "in a thread"])
def test_a_batch_equals_single_runs(recommender: Recommender, compute: Callable[..., Any]) -> None:
    """All users at once, each with different options."""
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


def test_requests_that_arrive_while_others_are_parsed_join_them(recommender: Recommender) -> None:
    """Each over a connection of its own; the event loop reads in one turn what it parses in the next."""
    n_runs = 0

    async def counted(work: Callable[[], Any]) -> Any:
        nonlocal n_runs
        n_runs += 1
        return work()

    async def ask() -> list[UserList]:
        batcher = Batcher(recommender, counted)

        async def arrive(connection: socket.socket, user: int) -> UserList:
            reader, writer = await asyncio.open_connection(sock=connection)
            await reader.readexactly(1)
            if user < 4:  # the next one comes while this one is parsed
                others[user + 1].send(b"x")
            found = await batcher.recommend(UserQuery(user, 5, True, NOTHING))
            writer.close()
            return found

        ours, others = zip(*(socket.socketpair() for _ in range(5)), strict=True)
        asked = [asyncio.create_task(arrive(connection, user)) for user, connection in enumerate(ours)]
        others[0].send(b"x")
        lists = await asyncio.gather(*asked)
        for connection in others:
            connection.close()
        return lists

    lists = asyncio.run(ask())
    assert n_runs == 1
    for user, found in enumerate(lists):
        check(found, UserQuery(user, 5, True, NOTHING), recommender)


def test_neither_a_bad_query_nor_a_client_that_leaves_affects_the_others(recommender: Recommender) -> None:
    good = [UserQuery(user, 5, True, NOTHING) for user in range(10)]
    queries = [*good[:5], UserQuery(10**6, 5, True, NOTHING), *good[5:]]

    async def ask() -> list[Any]:
        batcher = Batcher(recommender, at_once)
        tasks = [asyncio.create_task(batcher.recommend(query)) for query in queries]
        await asyncio.sleep(0)  # now all of them wait
        tasks[-1].cancel()
        return [*await asyncio.gather(*tasks, return_exceptions=True), await batcher.recommend(good[0])]

    *found, later = asyncio.run(ask())
    assert isinstance(found.pop(5), RequestError)
    assert isinstance(found.pop(), asyncio.CancelledError)
    check(later, good[0], recommender)
    for query, answer in zip(good[:-1], found, strict=True):
        check(answer, query, recommender)
