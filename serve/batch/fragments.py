"""The unit of work: one fragment of the input makes one part of the output, with the same bytes anywhere."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, closing
from pathlib import Path
from typing import Any, BinaryIO

import msgspec
import pyarrow as pa

from serve.batch.job import Fragment, Job, Plan
from serve.batch.job_folder import DONE, LOCK, QUARANTINE
from serve.batch.partitioned import new_files
from serve.batch.prefetch import prefetched
from serve.batch.sources import open_planned
from serve.errors import BadRowError, InputError, JobError
from serve.files.atomic import new_file, write_file
from serve.files.checksum import sha256_of
from serve.reading.rows import RefusedRow, Rows
from serve.runtime.batching import Each
from serve.runtime.recommender import Recommender
from serve.runtime.session import Device


class WrittenFile(msgspec.Struct, frozen=True):
    """A file in the job's folder, as it was written."""

    name: str
    rows: int
    bytes: int
    sha256: str

    @classmethod
    def of(cls, folder: Path, name: str, rows: int) -> WrittenFile:
        """Describe the file `name`. Raises OSError: it can't be read."""
        return cls(name, rows, (folder / name).stat().st_size, sha256_of(folder / name))

    def is_whole(self, folder: Path) -> bool:
        """Whether the file is there, with the bytes that were written; reads it."""
        try:
            return sha256_of(folder / self.name) == self.sha256
        except OSError:
            return False


class Outcome(msgspec.Struct, frozen=True):
    """The counts of a finished fragment."""

    number: int
    rows_in: int
    rows_out: int
    quarantined: int
    unknown: int
    """Rows of which an id is not in the bundle; quarantined ones don't count."""
    parts: list[WrittenFile]
    """Its part; with `partition_by`, one for each value of that column."""
    bad_rows: list[WrittenFile]
    """The file of its bad rows, where there are some that are quarantined."""


Engine = Callable[[Plan, Sequence[Fragment], Path, Recommender, Callable[[int], None]], Generator[Outcome]]
"""Runs fragments of a plan, in any order and any number of processes: `run_locally`, or a cluster.

Takes the plan, the fragments that are left, the job's folder, a recommender of the plan's bundle and device
for work in this process, and a function to call with the number of input rows done since its last call.
Yields an outcome for each fragment; closing the generator stops the work. Raises ServeError as
`FragmentRunner.run` does, and JobError: worker processes die repeatedly.
"""


def load(job: Job, device: Device) -> Recommender:
    """Load a job's bundle with one thread for each run of a graph; `FragmentRunner` does several at once.

    Threads that share a run wait for each other at every node: pairs take half as long again. Lists are
    exact, however many users are left for the last run.
    """
    return Recommender.load(job.bundle, device, threads=1, exact=True, tf32=job.tf32)


class FragmentRunner:
    """Runs fragments of one plan with a loaded bundle.

    On the CPU, `threads` runs of the graph go side by side while other threads read and write. On a GPU, runs
    follow each other. A single thread reads, runs and writes in turn: the operating system reads ahead and
    writes behind, and other processes use the CPU meanwhile.
    """

    def __init__(self, plan: Plan, folder: Path, recommender: Recommender, threads: int) -> None:
        self._plan = plan
        self._folder = folder
        self._recommender = recommender
        on_cpu = recommender.device == "cpu"
        self._pool = ThreadPoolExecutor(threads, "run") if on_cpu and threads > 1 else None
        self._each: Each = self._pool.map if self._pool else map
        self._ahead: Callable[[Generator[Any]], AbstractContextManager[Iterator[Any]]] = (
            closing if on_cpu and threads == 1 else prefetched
        )

    def close(self) -> None:
        """End the threads."""
        if self._pool:
            self._pool.shutdown(cancel_futures=True)

    def run(self, fragment: Fragment, on_rows: Callable[[int], None] = lambda n: None) -> Outcome:
        """Write a fragment's part and its bad rows into the folder, and finally its outcome.

        A fragment may run twice, or in two places at once: the bytes are the same, and each file is renamed
        into place whole. `on_rows` gets the number of input rows done since its last call.

        Raises:
            BadRowError: a bad row where they are not quarantined, or more of them than are allowed.
            InputError: the file has changed or is damaged.
            JobError: the part can't be written, the bundle has changed, or another job has the folder.
        """
        plan, folder, recommender, task = self._plan, self._folder, self._recommender, self._plan.job.task
        if recommender.bundle.version != plan.version:
            raise JobError(
                f"{plan.job.bundle} has changed: it is {recommender.bundle.version[:12]}, and the job began "
                f"with {plan.version[:12]}. Start again with --overwrite."
            )
        files = [plan.files[fragment.file]] if plan.files else []
        for file in files:
            file.check_unchanged()
        source = open_planned(plan, fragment.file, folder, recommender)
        schema = task.schema(source, plan.columns, recommender)
        rows_in = rows_out = n_bad = n_unknown = 0

        def batches() -> Generator[Rows]:
            yield from source.read(
                None if task.reads_all else list(plan.columns.values()),
                row_groups=range(fragment.start, fragment.stop),
                first_row=fragment.first_row,
                batch_rows=plan.job.rows_per_batch,
            )

        def results() -> Generator[tuple[pa.Table, list[RefusedRow], int]]:
            nonlocal rows_in
            with self._ahead(batches()) as ready:
                for batch in ready:
                    yield task.answer(batch, plan.columns, recommender, self._each)
                    rows_in += (n := len(batch.table) + len(batch.refused))
                    on_rows(n)

        quarantine: BinaryIO | None = None
        with (
            ExitStack() as stack,
            new_files(folder, plan.part_name(fragment), plan.job.format, schema, plan.job.partition_by) as (
                write,
                written,
            ),
            self._ahead(results()) as ready,
        ):
            for table, refused, unknown in ready:
                n_unknown += unknown
                if refused:
                    n_bad += len(refused)
                    check_bad_rows(plan, n_bad, refused)
                    if quarantine is None:
                        (folder / QUARANTINE).mkdir(exist_ok=True)
                        quarantine = stack.enter_context(new_file(folder / quarantine_name(fragment.number)))
                    quarantine.write(msgspec.json.Encoder().encode_lines(refused))
                write(table)
                rows_out += len(table)
            if rows_in != fragment.n_rows:
                raise InputError(
                    f"{source.name} gave {rows_in} rows where {fragment.n_rows} were counted. Copy it again."
                )
            for file in files:
                file.check_unchanged()
            # A worker may outlive the process that started it, and another job may have the folder by now.
            if (folder / LOCK).read_text() != plan.run_id:
                raise JobError(f"another job has begun in {folder}. This one ends here.")
        name = quarantine_name(fragment.number)
        outcome = Outcome(
            fragment.number,
            rows_in,
            rows_out,
            n_bad,
            n_unknown,
            [WrittenFile.of(folder, file, rows) for file, rows in written.items()],
            [WrittenFile.of(folder, name, n_bad)] if n_bad else [],
        )
        (folder / DONE).mkdir(exist_ok=True)
        write_file(_record_path(folder, fragment.number), _record(outcome))
        return outcome


def check_bad_rows(plan: Plan, n: int, some: Sequence[RefusedRow]) -> None:
    """Check that a job may go on with `n` bad rows, `some` of them given. Raises BadRowError: it may not."""
    job = plan.job
    if job.on_bad_row == "fail" and n:
        first = str(some[0]) if some else f"{n} rows were quarantined before"
        raise BadRowError(
            f"{first}. Correct it and start again with --overwrite, or quarantine such rows: --resume "
            f"--on-bad-row quarantine."
        )
    if job.max_bad_rows is not None and n > job.max_bad_rows:
        first = f" {some[0]}." if some else ""
        raise BadRowError(f"more than {job.max_bad_rows} rows are bad.{first} Look at the input.")


def quarantine_name(number: int) -> str:
    """The file in the job's folder for the bad rows of a fragment."""
    return f"{QUARANTINE}/part-{number:05d}.jsonl"


def finished(plan: Plan, folder: Path) -> dict[int, Outcome]:
    """Outcomes of the finished fragments by number: those whose record and files are as they were written.

    Reads every part: a byte that changed is found, and its fragment is done again.
    """
    outcomes: dict[int, Outcome] = {}
    for fragment in plan.fragments:
        try:
            written = _record_path(folder, fragment.number).read_bytes()
            outcome = msgspec.json.decode(written.partition(b"\n")[0], type=Outcome)
            is_whole = written == _record(outcome) and all(
                file.is_whole(folder) for file in (*outcome.parts, *outcome.bad_rows)
            )
        except (OSError, msgspec.DecodeError):
            continue
        if is_whole:
            outcomes[fragment.number] = outcome
    return outcomes


def _record_path(folder: Path, number: int) -> Path:
    return folder / DONE / f"{number:05d}.json"


def _record(outcome: Outcome) -> bytes:
    """An outcome in a line of JSON, and a line with its SHA-256."""
    line = msgspec.json.encode(outcome)
    return line + b"\n" + hashlib.sha256(line).hexdigest().encode() + b"\n"
