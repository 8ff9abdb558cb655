"""Waiting for signals without missing one."""

from __future__ import annotations

import signal
import time
from collections import deque

WAKE_SECONDS = 0.1


class Signals:
    """Some signals of this process, one after another; their earlier handlers are replaced.

    For the main thread. Python runs handlers there, between two byte codes: the handler of a signal that
    another thread receives, or that arrives just before a wait, runs after that wait. So waits are short.
    """

    def __init__(self, *numbers: signal.Signals) -> None:
        self._received: deque[int] = deque()
        for number in numbers:
            signal.signal(number, lambda number, frame: self._received.append(number))

    def next(self) -> signal.Signals:
        """Wait for the next signal."""
        while not self._received:
            time.sleep(WAKE_SECONDS)
        return signal.Signals(self._received.popleft())
