"""The unit of work: one fragment of the input -> one part of the output, the same bytes in any process."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

from serve.batch.inputs import check_unchanged
from serve.batch.job import Fragment, Plan
from serve.batch.job_folder import DONE, LOCK, QUARANTINE
from serve.batch.part_writers import new_part
from serve.batch.prefetch import prefetched
from serve.batch.sources import open_planned
from serve.batch.task_result import TaskResult
from serve.errors import BadRowError, InputError, JobError
from serve.files.atomic import new_file, write_file
from serve.reading.rows import RefusedRow, Rows
from serve.runtime.batching import Each
from serve.runtime.recommender import Recommender
from serve.runtime.session import Device


class Outcome(msgspec.Struct, frozen=True):
    """What became of a fragment."""

    number: int
    rows_in: int
    rows_out: int
    quarantined: int
    bytes: int
    """Size of the part."""


def load(path: str, device: Device) -> Recommender:
    """The bundle as a job loads it: a run of a graph takes one thread; `FragmentRunner` does several at once.

    Threads that share a run wait for each other at each of its nodes: pairs take half as long again.
    """
    return Recommender.load(path, device, threads=1)


class FragmentRunner:
    """Does fragments of one plan: with a bundle that is loaded once, and threads that run its graph.

    On the CPU, `threads` runs of the graph go side by side, while other threads read and write. A GPU is busy
    with one run. With a single thread nothing is gained by others, which would only hand each batch to
    another processor's cache: the system reads ahead and writes behind, and other workers fill the gaps.
    """

    def __init__(self, plan: Plan, folder: Path, recommender: Recommender, threads: int) -> None:
        self._plan = plan
        self._folder = folder
        self._recommender = recommender
        on_cpu = recommender.device == "cpu"
        self._pool = ThreadPoolExecutor(threads, "run") if on_cpu and threads > 1 else None
        self._each: Each = self._pool.map if self._pool else map
        # Makes the items of a generator before they are asked for.
        self._ahead: Callable[[Generator[Any]], AbstractContextManager[Iterator[Any]]] = (
            closing if on_cpu and threads == 1 else prefetched
        )

    def close(self) -> None:
        """End the threads."""
        if self._pool:
            self._pool.shutdown(cancel_futures=True)

    def run(self, fragment: Fragment, on_rows: Callable[[int], None] = lambda n: None) -> Outcome:
        """Write a fragment's part into the folder, its bad rows beside it, and last a note that it is done.

        Doing it twice, or in two places at once, does no harm: the bytes are the same, and each file is
        renamed into place whole.

        Args:
            fragment: One of the plan's.
            on_rows: Called with the number of input rows done since its last call.

        Raises:
            BadRowError: a bad row, where they are not set aside; or more than are allowed.
            InputError: the file has changed, or is damaged.
            JobError: the part can't be written, or the bundle or the folder is another one by now.
        """
        plan, folder, recommender = self._plan, self._folder, self._recommender
        if recommender.bundle.version != plan.version:
            raise JobError(
                f"{plan.job.bundle} has changed: it is {recommender.bundle.version[:12]}, and the job began "
                f"with {plan.version[:12]}. Start again with --overwrite."
            )
        input_files = [plan.files[fragment.file]] if plan.files else []
        check_unchanged(input_files)
        source, task = open_planned(plan, fragment.file, folder, recommender), plan.job.task
        schema = task.schema(source, recommender)
        path = folder / plan.part_name(fragment)
        rows_in = rows_out = n_bad = 0

        def batches() -> Generator[Rows]:
            yield from source.read(
                task.reads,
                row_groups=range(fragment.start, fragment.stop),
                first_row=fragment.first_row,
                batch_rows=plan.job.rows_per_batch,
            )

        def results() -> Generator[TaskResult]:
            nonlocal rows_in
            with self._ahead(batches()) as ready:
                for batch in ready:
                    yield task.answer(batch, recommender, self._each)
                    rows_in += (n := len(batch.table) + len(batch.refused))
                    on_rows(n)

        with (
            _quarantine(folder, fragment.number) as set_aside,
            new_part(path, plan.job.format, schema) as part,
            self._ahead(results()) as ready,
        ):
            for table, wrong in ready:
                if wrong:
                    n_bad += len(wrong)
                    check_bad_rows(plan, n_bad, wrong)
                    set_aside(wrong)
                part.write(table)
                rows_out += len(table)
            if rows_in != fragment.n_rows:
                raise InputError(
                    f"{source.name} gave {rows_in} rows where {fragment.n_rows} were counted. Copy it again."
                )
            check_unchanged(input_files)  # it may have been written to meanwhile
            check_still_ours(plan, folder)
        outcome = Outcome(fragment.number, rows_in, rows_out, n_bad, path.stat().st_size)
        (folder / DONE).mkdir(exist_ok=True)
        write_file(folder / DONE / f"{fragment.number:05d}.json", msgspec.json.encode(outcome))
        return outcome


@contextmanager
def _quarantine(folder: Path, number: int) -> Iterator[Callable[[Sequence[RefusedRow]], None]]:
    """Give a function that sets rows aside, as they come; there is a file only where there are such rows."""
    with ExitStack() as stack:
        files: list[BinaryIO] = []
        encoder = msgspec.json.Encoder()

        def write(rows: Sequence[RefusedRow]) -> None:
            if not files:
                (folder / QUARANTINE).mkdir(exist_ok=True)
                files.append(stack.enter_context(new_file(folder / QUARANTINE / f"part-{number:05d}.jsonl")))
            files[0].write(encoder.encode_lines(rows))

        yield write


def check_still_ours(plan: Plan, folder: Path) -> None:
    """Whether the folder still is this run's: a worker may outlive who started it, and meet another job.

    Raises:
        JobError: it is not.
    """
    if (folder / LOCK).read_text() != plan.run_id:
        raise JobError(f"another job has begun in {folder}. This one ends here.")


def check_bad_rows(plan: Plan, n: int, some: Sequence[RefusedRow]) -> None:
    """Whether the job may go on with so many bad rows, `some` of which are at hand.

    Raises:
        BadRowError: it may not.
    """
    job = plan.job
    if job.on_bad_row == "fail" and n:
        first = str(some[0]) if some else f"{n} rows were set aside before"
        raise BadRowError(
            f"{first}. Correct it and start again with --overwrite, or set such rows aside: --resume "
            f"--on-bad-row quarantine."
        )
    if job.max_bad_rows is not None and n > job.max_bad_rows:
        first = f" {some[0]}." if some else ""
        raise BadRowError(f"more than {job.max_bad_rows} rows are bad.{first} Look at the input.")


def finished(plan: Plan, folder: Path) -> dict[int, Outcome]:
    """The fragments that are done, by number; a part without its note, or a note without its part, is not."""
    outcomes: dict[int, Outcome] = {}
    for fragment in plan.fragments:
        try:
            note = (folder / DONE / f"{fragment.number:05d}.json").read_bytes()
            outcome = msgspec.json.decode(note, type=Outcome)
            if (folder / plan.part_name(fragment)).stat().st_size == outcome.bytes:
                outcomes[fragment.number] = outcome
        except (OSError, msgspec.DecodeError):
            continue
    return outcomes
