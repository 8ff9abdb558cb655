"""Threads that run ahead: in order, within bounds, and gone afterwards."""

from __future__ import annotations

import threading
from collections.abc import Generator

import pytest
from patience import PATIENCE

from serve.batch.prefetch import DEPTH, prefetched


def threads_ahead() -> int:
    return sum(thread.name.startswith("prefetch") for thread in threading.enumerate())


def test_the_same_items_in_the_same_order_and_no_further_ahead_than_the_bound() -> None:
    made = threading.Semaphore(0)

    def numbers() -> Generator[int]:
        for i in range(100):
            made.release()
            yield i

    with prefetched(numbers()) as items:
        assert next(items) == 0
        for _ in range(DEPTH + 1):  # the one that was taken, and those ahead
            assert made.acquire(timeout=PATIENCE)
        assert not made.acquire(timeout=0.3)
        assert list(items) == list(range(1, 100))
    assert not threads_ahead()


def test_an_error_is_raised_in_its_place() -> None:
    def numbers() -> Generator[int]:
        yield 1
        raise ValueError("no more")

    with prefetched(numbers()) as items:
        assert next(items) == 1
        with pytest.raises(ValueError, match="no more"):
            next(items)


def test_no_thread_is_left_of_several_in_a_row_when_the_consumer_fails() -> None:
    def doubled() -> Generator[int]:
        with prefetched(i for i in range(1000)) as items:
            for i in items:
                yield 2 * i

    generator = doubled()  # a traceback keeps it alive in the same way

    def consume() -> None:
        with prefetched(generator) as items:
            assert next(items) == 0
            assert threads_ahead() == 2
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        consume()
    assert not threads_ahead()
