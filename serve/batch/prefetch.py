"""A generator that runs ahead in a thread, within bounds."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from typing import TypeVar

T = TypeVar("T")

DEPTH = 3


@contextmanager
def prefetched(items: Generator[T], depth: int = DEPTH) -> Iterator[Iterator[T]]:
    """Give the same items in the same order, made by a thread that is up to `depth` items ahead.

    An error of the generator is raised where its item would come. On exit, the thread finishes its current
    item, and the generator is closed: it may own a thread too, which must not outlive the interpreter.
    """
    end = object()
    with closing(items), ThreadPoolExecutor(1, "prefetch") as thread:
        ahead = deque(thread.submit(next, items, end) for _ in range(depth))

        def taken() -> Iterator[T]:
            while (item := ahead.popleft().result()) is not end:
                ahead.append(thread.submit(next, items, end))
                yield item  # type: ignore[misc]

        try:
            yield taken()
        finally:
            thread.shutdown(cancel_futures=True)
