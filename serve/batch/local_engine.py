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
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from serve.batch.inputs import find_files
from serve.batch.job import Fragment, Job, Plan
from serve.batch.work import Outcome, do_fragment, new_crew
from serve.batch.worker import Reply, checked
from serve.device import available_cpus, has_cuda_gpu
from serve.recommender import Recommender

if TYPE_CHECKING:
    from serve.batch.run import Engine, Work

log = logging.getLogger(__name__)


def local_engine(workers: int | None = None) -> Engine:
    """An engine for `serve.batch.run.run_job`.

    Args:
        workers: Processes, this one among them; None: as many as are worth their start.
    """

    @contextmanager
    def engine(job: Job) -> Iterator[Work]:
        with ExitStack() as stack:
            # They start, which takes some tenths of a second, while the job is planned.
            helpers = [stack.enter_context(Helper()) for _ in range((workers or _worth_while(job)) - 1)]
            yield partial(run, helpers=helpers)

    return engine


def _worth_while(job: Job) -> int:
    if job.input is None or job.device == "cuda" or (job.device == "auto" and has_cuda_gpu()):
        return 1
    n_bytes = 0
    with suppress(OSError):  # the plan will tell
        n_bytes = sum(path.stat().st_size for _, path in find_files(job.input))
    return job.workers_worth_while(n_bytes, available_cpus())


def run(
    plan: Plan,
    fragments: Sequence[Fragment],
    folder: Path,
    recommender: Recommender,
    on_rows: Callable[[int], None],
    on_outcome: Callable[[Outcome], None],
    *,
    helpers: Sequence[Helper] = (),
) -> None:
    """Do the fragments. What a helper that dies was at is done by somebody else.

    Args:
        plan: The job.
        fragments: Those of the plan that are left to do.
        folder: Where the job is written.
        recommender: Of the plan's bundle and device.
        on_rows: Called with the number of rows answered since its last call; by one thread at a time.
        on_outcome: Called with each fragment's outcome; may raise to stop the job.
        helpers: Processes that may do fragments, too.

    Raises:
        ServeError: as `do_fragment`.
    """
    helpers = helpers[: max(0, len(fragments) - 1)]
    threads = max(1, round(available_cpus() / (1 + len(helpers))))
    waiting, counting = deque(fragments), threading.Lock()
    # What helpers have done, what keeps one from going on, and None from each that has come to its end.
    news: queue.Queue[Outcome | Exception | None] = queue.Queue()

    def answered(n: int) -> None:
        with counting:
            on_rows(n)

    def hear() -> bool:
        """Whether a helper has come to its end."""
        if isinstance(told := news.get(), Exception):
            raise told
        if told:
            on_outcome(told)
        return told is None

    with new_crew(recommender, threads) as crew:
        for helper in helpers:
            helper.begin(plan, folder, threads, waiting, answered, news.put)
        n_busy = len(helpers)
        while waiting or n_busy:
            if fragment := _next(waiting):
                on_outcome(do_fragment(plan, fragment, folder, recommender, crew, answered))
            while n_busy and not (waiting and news.empty()):
                n_busy -= hear()


def _next(waiting: deque[Fragment]) -> Fragment | None:
    with suppress(IndexError):
        return waiting.popleft()
    return None


class _GoneError(Exception):
    """A helper is no more."""


class Helper:
    """A process that does fragments, and a thread of ours that talks to it; its context stops both."""

    def __enter__(self) -> Helper:
        """Start the process; `begin` gives it something to do."""
        # -P: not from a folder named serve where the job happens to be started.
        command = [sys.executable, "-P", "-m", "serve.batch.helper"]
        environment = os.environ | {"OPENBLAS_NUM_THREADS": "1"}  # whose other threads begin with a busy wait
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment
        )
        self._thread: threading.Thread | None = None
        self._stopping = False
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping = True
        self._process.kill()
        if self._thread:
            self._thread.join()
        with suppress(OSError):  # what it has not read
            self._process.communicate()

    def begin(
        self,
        plan: Plan,
        folder: Path,
        threads: int,
        waiting: deque[Fragment],
        on_rows: Callable[[int], None],
        tell: Callable[[Outcome | Exception | None], None],
    ) -> None:
        """Have it take fragments from `waiting` until none is left, and tell what comes of it; last, None."""

        def tend() -> None:
            fragment: Fragment | None = None
            try:
                self._write(msgspec.json.encode((str(folder), threads)))
                self._ask(msgspec.json.encode(plan), on_rows)
                while fragment := _next(waiting):
                    outcome = self._ask(str(fragment.number).encode(), on_rows)
                    tell(msgspec.json.decode(outcome, type=Outcome))
            except _GoneError:
                if not self._stopping:
                    log.warning("a helper has died (status %s); others do its work", self._process.wait())
                if fragment:
                    waiting.append(fragment)
            except Exception as error:  # noqa: BLE001  raised again by whoever is told
                tell(error)
            finally:
                tell(None)

        self._thread = threading.Thread(target=tend, daemon=True)
        self._thread.start()

    def _ask(self, line: bytes, on_rows: Callable[[int], None]) -> str:
        """What it answers to a line.

        Raises:
            ServeError: the helper's, as it was.
            _GoneError: the helper has died, or was stopped.
        """
        self._write(line)
        assert self._process.stdout
        while (reply := self._process.stdout.readline()).endswith(b"\n"):
            kind, answer = msgspec.json.decode(reply, type=Reply)
            if kind != "rows":
                return checked((kind, answer))
            on_rows(int(answer))
        raise _GoneError

    def _write(self, line: bytes) -> None:
        assert self._process.stdin
        with suppress(OSError):  # it is gone, and will answer nothing
            self._process.stdin.write(line + b"\n")
            self._process.stdin.flush()
