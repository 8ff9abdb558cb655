"""Threads that work ahead: in order, within bounds, and gone afterwards."""

from __future__ import annotations

import threading
from collections.abc import Generator

import pytest
from patience import PATIENCE

from serve.batch.prefetch import DEPTH, prefetched


def threads_ahead() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name == "prefetch"]


def test_the_same_items_in_the_same_order() -> None:
    with prefetched(i for i in range(100)) as items:
        assert list(items) == list(range(100))
    assert not threads_ahead()


def test_it_is_no_further_ahead_than_its_bound() -> None:
    made = threading.Semaphore(0)

    def numbers() -> Generator[int]:
        for i in range(100):
            made.release()
            yield i

    with prefetched(numbers()) as items:
        next(items)
        for _ in range(DEPTH + 2):  # the one taken, those that are ready, and the one in hand
            assert made.acquire(timeout=PATIENCE)
        assert not made.acquire(timeout=0.3)


def test_an_error_is_raised_in_its_place() -> None:
    def numbers() -> Generator[int]:
        yield 1
        raise ValueError("no more")

    with prefetched(numbers()) as items:
        assert next(items) == 1
        with pytest.raises(ValueError, match="no more"):
            next(items)


def test_no_thread_is_left_of_several_in_a_row_when_the_last_taker_fails() -> None:
    def numbers() -> Generator[int]:
        yield from range(1000)

    def doubled() -> Generator[int]:
        with prefetched(numbers()) as items:
            for i in items:
                yield 2 * i

    made = doubled()  # as a traceback keeps it: nothing ends merely by being forgotten

    def take() -> None:
        with prefetched(made) as items:
            assert next(items) == 0
            assert len(threads_ahead()) == 2
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        take()
    assert not threads_ahead()


def test_interrupted_while_its_thread_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    start = threading.Thread.start

    def interrupted(thread: threading.Thread) -> None:
        start(thread)
        raise KeyboardInterrupt

    monkeypatch.setattr(threading.Thread, "start", interrupted)
    with pytest.raises(KeyboardInterrupt), prefetched(i for i in range(100)):
        pass
    assert not threads_ahead()
