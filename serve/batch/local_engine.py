"""All fragments on this machine: this process does them one after another, and so do its helpers.

Threads alone are not enough where a row costs as much to read, look up and write as to answer: they wait for
one interpreter, and for each other's wake-up. Helpers are processes; each does whole fragments.
"""

from __future__ import annotations

import logging
import os
import queue
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import msgspec

from serve.batch.job import Fragment, Plan
from serve.batch.work import Outcome, do_fragment, new_crew
from serve.batch.worker import Reply, checked
from serve.device import available_cpus
from serve.recommender import Recommender

log = logging.getLogger(__name__)


def run(
    plan: Plan,
    fragments: Sequence[Fragment],
    folder: Path,
    recommender: Recommender,
    on_rows: Callable[[int], None],
    on_outcome: Callable[[Outcome], None],
    *,
    workers: int | None = None,
) -> None:
    """Do the fragments. What a helper that dies was at is done by somebody else.

    Args:
        plan: The job.
        fragments: Those of the plan that are left to do.
        folder: Where the job is written.
        recommender: Of the plan's bundle and device.
        on_rows: Called with the number of rows answered since its last call; by one thread at a time.
        on_outcome: Called with each fragment's outcome; may raise to stop the job.
        workers: Processes, this one among them; None: as many as are worth their start.

    Raises:
        ServeError: as `do_fragment`.
    """
    cpus = available_cpus()
    n_workers = min(workers or plan.workers_worth_while(fragments, cpus), max(1, len(fragments)))
    threads = max(1, cpus // n_workers)
    waiting, lock = deque(fragments), threading.Lock()

    def rows_answered(n: int) -> None:
        with lock:
            on_rows(n)

    with (
        new_crew(recommender, threads) as crew,
        _helpers(n_workers - 1, plan, folder, threads, waiting, rows_answered) as helpers,
    ):

        def ours_answered(n: int) -> None:
            if helpers.error:
                raise helpers.error
            rows_answered(n)

        while True:
            if fragment := _next(waiting):
                on_outcome(do_fragment(plan, fragment, folder, recommender, crew, ours_answered))
            elif not helpers.n_busy:
                return
            for outcome in helpers.outcomes(wait=not waiting):
                on_outcome(outcome)


def _next(waiting: deque[Fragment]) -> Fragment | None:
    with suppress(IndexError):
        return waiting.popleft()
    return None


class _Gone(Exception):
    """A helper is no more."""


class _Helpers:
    """Processes that take fragments from `waiting`, each with a thread of ours that talks to it."""

    def __init__(self, waiting: deque[Fragment], on_rows: Callable[[int], None]) -> None:
        self.n_busy = 0
        self.error: Exception | None = None
        self.stopping = False
        self._waiting = waiting
        self._on_rows = on_rows
        self._found: queue.Queue[Outcome | None] = queue.Queue()

    def tend(self, helper: subprocess.Popen[bytes], plan: bytes) -> None:
        """Keep a helper busy while there is something to do."""
        fragment: Fragment | None = None
        try:
            self._ask(helper, plan)
            while fragment := _next(self._waiting):
                outcome = self._ask(helper, str(fragment.number).encode())
                self._found.put(msgspec.json.decode(outcome, type=Outcome))
        except _Gone:
            if not self.stopping:
                log.warning("a helper has died (status %s); others do its work", helper.wait())
            if fragment:
                self._waiting.append(fragment)
        except Exception as error:  # noqa: BLE001  raised again by whoever waits for it
            self.error = error
        finally:
            self._found.put(None)

    def _ask(self, helper: subprocess.Popen[bytes], line: bytes) -> str:
        """What it answers to a line.

        Raises:
            ServeError: the helper's, as it was.
            _Gone: the helper has died, or was stopped.
        """
        assert helper.stdin
        assert helper.stdout
        with suppress(OSError):  # it is gone, and will answer nothing
            helper.stdin.write(line + b"\n")
            helper.stdin.flush()
        while (reply := helper.stdout.readline()).endswith(b"\n"):
            kind, answer = msgspec.json.decode(reply, type=Reply)
            if kind != "rows":
                return checked((kind, answer))
            self._on_rows(int(answer))
        raise _Gone

    def outcomes(self, *, wait: bool) -> Iterator[Outcome]:
        """What they have done by now; or wait until something happens.

        Raises:
            ServeError: one of them can't go on.
        """
        wait = wait and self.n_busy > 0
        while wait or not self._found.empty():
            found = self._found.get()
            wait = False
            if found is None:
                self.n_busy -= 1
            else:
                yield found
        if self.error:
            raise self.error


@contextmanager
def _helpers(
    n: int,
    plan: Plan,
    folder: Path,
    threads: int,
    waiting: deque[Fragment],
    on_rows: Callable[[int], None],
) -> Iterator[_Helpers]:
    """Start `n` helpers; on leaving, they are stopped, whatever they are at."""
    helpers = _Helpers(waiting, on_rows)
    packed = msgspec.json.encode(plan)
    command = [sys.executable, "-m", "serve.batch.helper", str(folder), str(threads)]
    with ExitStack() as stack:
        for _ in range(n):
            # Not close_fds: they inherit the lock on the folder, so that no other job begins in it while a
            # helper may still write, though we are killed.
            process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                close_fds=False,
                env=os.environ | {"OPENBLAS_NUM_THREADS": "1"},
            )
            thread = threading.Thread(target=helpers.tend, args=(process, packed), daemon=True)
            thread.start()
            helpers.n_busy += 1
            stack.callback(_stop, process, thread)
        try:
            yield helpers
        finally:
            helpers.stopping = True


def _stop(process: subprocess.Popen[bytes], thread: threading.Thread) -> None:
    process.kill()
    thread.join()
    with suppress(OSError):  # what it has not read
        process.communicate()
