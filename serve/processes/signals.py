"""Waiting for signals, so that none is missed."""

from __future__ import annotations

import signal
import socket


class Signals:
    """The signals that this process gets, one after another. For the main thread, once in a process.

    A queue that a handler fills would miss some: Python runs handlers in the main thread, between two steps
    of its own. A signal that comes to another thread, or just before the main one begins to wait, is handled
    when that wait is over, which may be never. This socket is written to at once, by whichever thread; it
    holds some hundreds that nobody has waited for yet.
    """

    def __init__(self, *numbers: signal.Signals) -> None:
        self._ours, theirs = socket.socketpair()
        theirs.setblocking(False)
        self._kept_open = theirs
        self._awaited: set[int] = set()
        signal.set_wakeup_fd(theirs.fileno(), warn_on_full_buffer=False)
        self.take(*numbers)

    def take(self, *numbers: signal.Signals) -> None:
        """Wait for these from now on, too, in place of what they did so far."""
        for number in numbers:
            signal.signal(number, lambda *_: None)  # without a handler, Python is not told
        self._awaited.update(numbers)

    def next(self) -> signal.Signals:
        """Wait for the next one."""
        while True:
            (number,) = self._ours.recv(1)
            if number in self._awaited:
                return signal.Signals(number)
