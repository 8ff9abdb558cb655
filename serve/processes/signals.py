"""Waiting for signals without missing one."""

from __future__ import annotations

import signal
import socket


class Signals:
    """The signals of this process, one after another. For the main thread, once in a process.

    A queue that a handler fills would miss some: Python runs handlers in the main thread, between two byte
    codes. A signal that arrives in another thread, or just before the main thread begins to wait, is handled
    after that wait, which may never end. The wakeup socket is written to at once by the receiving thread, and
    holds some hundreds of signals.
    """

    def __init__(self, *numbers: signal.Signals) -> None:
        self._ours, theirs = socket.socketpair()
        theirs.setblocking(False)
        self._kept_open = theirs
        self._awaited: set[int] = set()
        signal.set_wakeup_fd(theirs.fileno(), warn_on_full_buffer=False)
        self.take(*numbers)

    def take(self, *numbers: signal.Signals) -> None:
        """Wait for these too from now on; they lose their earlier handlers."""
        for number in numbers:
            signal.signal(number, lambda *_: None)  # without a handler, Python does not write to the socket
        self._awaited.update(numbers)

    def next(self) -> signal.Signals:
        """Wait for the next signal."""
        while True:
            (number,) = self._ours.recv(1)
            if number in self._awaited:
                return signal.Signals(number)
