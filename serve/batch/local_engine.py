"""All fragments on this machine: in this process, or in the processes of `concurrent.futures`.

Where a row costs as much to read, look up and write as to score, threads would wait for the interpreter lock,
so processes share the fragments.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing, contextmanager, suppress
from functools import cache
from multiprocessing.connection import Connection
from pathlib import Path

from serve.batch.fragments import FragmentRunner, Outcome, load
from serve.batch.job import Fragment, Plan
from serve.batch.job_folder import share_claim
from serve.errors import JobError
from serve.runtime.recommender import Recommender
from serve.runtime.session import available_cpus

log = logging.getLogger(__name__)

MAX_BROKEN_POOLS = 3
"""In a row, without a finished fragment in between. More have a lasting cause, such as too little memory."""


def run_locally(
    plan: Plan,
    fragments: Sequence[Fragment],
    folder: Path,
    recommender: Recommender,
    on_rows: Callable[[int], None],
    *,
    workers: int | None = 1,
) -> Generator[Outcome]:
    """The local `Engine`; its other arguments are described there.

    With `workers=1`, this process does the work; None takes as many processes as the input's size is worth.
    Worker processes import `__main__` anew, so a script needs `if __name__ == "__main__":`.
    """
    if workers is None:
        n_bytes = sum(file.bytes for file in plan.files)
        workers = plan.job.default_workers(n_bytes, available_cpus()) if plan.device == "cpu" else 1
    n_workers = min(workers, len(fragments))
    if n_workers <= 1:
        with closing(FragmentRunner(plan, folder, recommender, available_cpus())) as runner:
            for fragment in fragments:
                yield runner.run(fragment, on_rows)
        return
    left = {fragment.number: fragment for fragment in fragments}
    n_broken = 0
    while left:
        try:
            with _new_pool(plan, folder, n_workers) as pool:
                for outcome in _outcomes(_submitted(pool, list(left.values()))):
                    n_broken = 0
                    del left[outcome.number]
                    on_rows(outcome.rows_in)
                    yield outcome
        except BrokenProcessPool:
            n_broken += 1
            if n_broken == MAX_BROKEN_POOLS:
                raise JobError(
                    f"worker processes have died {n_broken} times in a row. What is finished is kept: look "
                    f"at memory and disks, then go on with --resume and fewer --workers."
                ) from None
            log.warning("a worker process has died; its fragments are done again")


def _submitted(pool: ProcessPoolExecutor, fragments: Sequence[Fragment]) -> list[Future[Outcome]]:
    # Workers inherit the mask: Ctrl-C, which a terminal sends to all of them, is for this process alone.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        return [pool.submit(_run, fragment) for fragment in fragments]
    except OSError as error:
        if error.errno is None:  # the pipe of a pool whose workers have died since the first submission
            raise BrokenProcessPool(str(error)) from error
        raise JobError(f"worker processes can't be started: {error}. Take fewer --workers.") from error
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _outcomes(futures: Sequence[Future[Outcome]]) -> Iterator[Outcome]:
    """Outcomes as they come. Raises BrokenProcessPool after every outcome that is known."""
    broken: BrokenProcessPool | None = None
    for future in as_completed(futures):
        try:
            yield future.result()
        except BrokenProcessPool as error:
            broken = error
    if broken:
        raise broken


@contextmanager
def _new_pool(plan: Plan, folder: Path, n_workers: int) -> Iterator[ProcessPoolExecutor]:
    """Worker processes, which exit at once when the block ends or this process does, however it ends."""
    context = multiprocessing.get_context("spawn")
    threads = max(1, round(available_cpus() / n_workers))
    theirs, ours = context.Pipe(duplex=False)
    with theirs, ours:
        pool = ProcessPoolExecutor(n_workers, context, _start, (plan, folder, threads, theirs))
        try:
            yield pool
        finally:
            ours.close()
            pool.shutdown(cancel_futures=True)


# The rest runs in the workers.

_given: tuple[Plan, Path, int]


def _start(plan: Plan, folder: Path, threads: int, parent: Connection) -> None:
    global _given
    _given = plan, folder, threads
    threading.Thread(target=_exit_with, args=(parent,), daemon=True).start()


def _exit_with(parent: Connection) -> None:
    """Exit when the pipe that only the parent writes to ends; unfinished work has no use then."""
    with suppress(EOFError, OSError):
        parent.recv_bytes()
    os._exit(0)


@cache
def _runner() -> FragmentRunner:
    # Not in `_start`: the executor logs the traceback of an initializer's error, and loses the error.
    plan, folder, threads = _given
    share_claim(folder)
    return FragmentRunner(plan, folder, load(plan.job, plan.device), threads)


def _run(fragment: Fragment) -> Outcome:
    return _runner().run(fragment)
