"""All fragments on this machine: this process does them one after another, and so do its helpers.

Threads alone are not enough where a row costs as much to read, look up and write as to answer: they wait for
one interpreter, and for each other's wake-up. Helpers are processes; each does whole fragments.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from serve.batch.fragments import Outcome, do_fragment, new_crew
from serve.batch.helper_process import Board, Helper
from serve.batch.inputs import find_files
from serve.batch.job import Fragment, Job, Plan
from serve.runtime.recommender import Recommender
from serve.runtime.session import available_cpus, has_cuda_gpu

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
