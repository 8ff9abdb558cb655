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
from serve.errors import ServeError
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
        n = _worth_while(job)
        with ExitStack() as stack:
            # They start, which takes some tenths of a second, while the job is planned.
            early = _started(min(workers or n, n) - 1, stack)
            yield partial(run, workers=workers or n, helpers=early)

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
    workers: int = 1,
    helpers: Sequence[Helper] = (),
) -> None:
    """Do the fragments. What a helper that dies was at is done by somebody else.

    Args:
        plan: The job.
        fragments: Those of the plan that are left to do.
        folder: Where the job is written.
        recommender: Of the plan's bundle and device.
        on_rows: Called with the number of rows answered since its last call, by one thread at a time; what is
            to be done again is taken back.
        on_outcome: Called with each fragment's outcome; may raise to stop the job.
        workers: Processes at most, this one among them.
        helpers: Those of them that have been started.

    Raises:
        ServeError: as `do_fragment`.
    """
    board = Board(fragments, on_rows)
    n_helpers = max(0, min(workers, len(fragments)) - 1)
    with ExitStack() as stack:
        helpers = [*helpers[:n_helpers], *_started(n_helpers - len(helpers), stack)]
        threads = max(1, round(available_cpus() / (1 + len(helpers))))
        crew = stack.enter_context(new_crew(recommender, threads))
        for helper in helpers:
            stack.callback(helper.stop)
            helper.begin(plan, folder, threads, board)
        n_left = len(fragments)
        while n_left:
            if fragment := board.take():
                on_outcome(do_fragment(plan, fragment, folder, recommender, crew, board.count))
                n_left -= 1
            for outcome in board.news(wait=n_left > 0):
                on_outcome(outcome)
                n_left -= 1


class Board:
    """What this process and those who talk to helpers share: fragments to do, and what has come of others."""

    def __init__(self, fragments: Sequence[Fragment], on_rows: Callable[[int], None]) -> None:
        self._waiting = deque(fragments)
        self._on_rows = on_rows
        self._counting = threading.Lock()
        # Outcomes of helpers; None where one has come to its end, and a fragment may have come back.
        self._news: queue.Queue[Outcome | None] = queue.Queue()
        self._error: Exception | None = None

    def take(self) -> Fragment | None:
        """A fragment to do; None where there is none."""
        with suppress(IndexError):
            return self._waiting.popleft()
        return None

    def count(self, n: int) -> None:
        """So many rows more (or fewer, where they are to be done again).

        Raises:
            Exception: what a helper has met: there is no use in going on.
        """
        if self._error:
            raise self._error
        with self._counting:
            self._on_rows(n)

    def done(self, outcome: Outcome) -> None:
        """A helper has done a fragment."""
        self._news.put(outcome)

    def ended(self, unfinished: Fragment | None, error: Exception | None = None) -> None:
        """A helper does no more."""
        if unfinished:
            self._waiting.append(unfinished)
        self._error = self._error or error
        self._news.put(None)

    def news(self, *, wait: bool) -> list[Outcome]:
        """What helpers have done by now; where there is nothing to do meanwhile, wait for one of them.

        Raises:
            Exception: what a helper has met.
        """
        found = []
        wait = wait and not self._waiting
        while wait or not self._news.empty():
            found.append(self._news.get())
            wait = False
        if self._error:
            raise self._error
        return [outcome for outcome in found if outcome]


def _started(n: int, stack: ExitStack) -> list[Helper]:
    """At most `n` helpers, which end with the stack; fewer where the system has no room for them."""
    helpers: list[Helper] = []
    try:
        for _ in range(n):
            helpers.append(Helper())
            stack.callback(helpers[-1].stop)
    except OSError as error:
        log.warning("no more than %d helpers could be started: %s", len(helpers), error)
    return helpers


class _GoneError(Exception):
    """A helper is no more."""


class Helper:
    """A process that does fragments, and a thread of ours that talks to it."""

    # The same modules as ours, wherever those come from.
    CODE = (
        "import sys; sys.path[:] = sys.argv[2:]; from serve.batch.helper import main; main(int(sys.argv[1]))"
    )

    def __init__(self) -> None:
        """Start the process; `begin` gives it something to do.

        Raises:
            OSError: it can't be started.
        """
        ours, its = os.pipe()
        self._replies = os.fdopen(ours, "rb")
        self._thread: threading.Thread | None = None
        self._stopping = False
        try:
            self._process = subprocess.Popen(
                [sys.executable or "", "-P", "-c", self.CODE, str(its), *sys.path],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,  # whatever libraries have to say
                pass_fds=(its,),
                process_group=0,  # Ctrl-C is for us, who then stop it
            )
        except OSError:
            self._replies.close()
            raise
        finally:
            os.close(its)

    def stop(self) -> None:
        """Stop the process, whatever it is at. Another time, this does nothing."""
        self._stopping = True
        self._process.kill()
        if self._thread:
            self._thread.join()
        with suppress(OSError):  # what it has not read
            self._process.communicate()
        self._replies.close()

    def begin(self, plan: Plan, folder: Path, threads: int, board: Board) -> None:
        """Have it do fragments until there is none."""
        self._thread = threading.Thread(target=self._tend, args=(plan, folder, threads, board), daemon=True)
        self._thread.start()

    def _tend(self, plan: Plan, folder: Path, threads: int, board: Board) -> None:
        fragment: Fragment | None = None
        counted = 0

        def count(n: int) -> None:
            nonlocal counted
            counted += n
            board.count(n)

        try:
            self._write(msgspec.json.encode((str(folder), threads)))
            self._ask(msgspec.json.encode(plan), count)
            while fragment := board.take():
                counted = 0
                outcome = self._ask(str(fragment.number).encode(), count)
                board.done(msgspec.json.decode(outcome, type=Outcome))
            board.ended(None)
        except _GoneError:
            if not self._stopping:
                log.warning("a helper has died (status %s); others do its work", self._process.wait())
                with suppress(ServeError):
                    board.count(-counted)
            board.ended(fragment)
        except Exception as error:  # noqa: BLE001  raised again by whoever looks at the board
            board.ended(None, error)

    def _ask(self, line: bytes, on_rows: Callable[[int], None]) -> str:
        """What it answers to a line.

        Raises:
            ServeError: the helper's, as it was.
            _GoneError: the helper has died, or was stopped.
        """
        self._write(line)
        while (reply := self._replies.readline()).endswith(b"\n"):
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
