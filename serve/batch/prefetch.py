"""An iterator that works ahead in a thread of its own, within bounds."""

from __future__ import annotations

import queue
import threading
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from typing import TypeVar

T = TypeVar("T")

DEPTH = 2


@contextmanager
def prefetched(items: Generator[T], depth: int = DEPTH) -> Iterator[Iterator[T]]:
    """Give the same items in the same order, made by a thread that is up to `depth` items ahead.

    An error there is raised here, in its place. On leaving, the thread ends after the item that it is at, and
    closes what makes them: that may have a thread of its own, which must not outlive the interpreter.
    """
    ready: queue.Queue[tuple[bool, T | BaseException | None]] = queue.Queue(depth)
    stop = threading.Event()

    def put(entry: tuple[bool, T | BaseException | None]) -> None:
        while not stop.is_set():
            try:
                ready.put(entry, timeout=0.1)
            except queue.Full:
                continue
            return

    def work() -> None:
        try:
            with closing(items):
                for item in items:
                    put((True, item))
                    if stop.is_set():
                        return
            put((False, None))
        except BaseException as error:  # noqa: BLE001  raised again by whoever takes it
            put((False, error))

    def taken() -> Iterator[T]:
        while True:
            more, item = ready.get()
            if more:
                yield item  # type: ignore[misc]
            elif item is None:
                return
            else:
                raise item  # type: ignore[misc]

    thread = threading.Thread(target=work, name="prefetch", daemon=True)
    try:
        thread.start()
        yield taken()
    finally:
        stop.set()
        if thread.is_alive():
            thread.join()
