"""Signals are heard whichever thread of the process they come to."""

from __future__ import annotations

import subprocess
import sys

import pytest
from patience import PATIENCE

PROGRAM = """
import signal, threading, time
from serve.processes.signals import Signals

signals = Signals(signal.SIGHUP, signal.SIGTERM)
signal.signal(signal.SIGUSR1, lambda *_: None)  # somebody else's

def send():
    for number in {sent}:
        time.sleep({pause})
        signal.pthread_kill({thread}, number)

threading.Thread(target=send).start()
print(*(signals.next().name for _ in range(2)))
"""


@pytest.mark.parametrize("pause", [0, 0.2])  # before the main thread waits, and while it does
@pytest.mark.parametrize("thread", ["threading.get_ident()", "threading.main_thread().ident"])
def test_none_is_missed(thread: str, pause: float) -> None:
    sent = "(signal.SIGHUP, signal.SIGUSR1, signal.SIGTERM)"
    program = PROGRAM.format(sent=sent, thread=thread, pause=pause)
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=PATIENCE, check=True
    )
    assert run.stdout.split() == ["SIGHUP", "SIGTERM"]
