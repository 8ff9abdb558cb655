"""A whole job: planned, run by an engine, and moved into place when it is whole.

While it runs, everything lies in a folder beside the output (`serve.batch.job_folder`). At its end
`_SUCCESS.json` is written, files that only the running job needs are removed, and the folder takes the
output's name; with `overwrite`, an old output is swapped out in the same step.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec

from serve.batch.fragments import Engine, Outcome, WrittenFile, check_bad_rows, finished, load
from serve.batch.job import Job, Plan
from serve.batch.job_folder import (
    DONE,
    INPUT,
    LOCK,
    PLAN,
    STAGED,
    SUCCESS,
    check_ours,
    claimed,
    empty,
    remove,
    sweep,
)
from serve.batch.local_engine import run_locally
from serve.batch.plan import make_plan, with_fragments
from serve.batch.staging import stage
from serve.errors import JobError, OutputError, ServeError
from serve.files.atomic import check_target, move_into_place, write_file
from serve.files.checksum import sha256_of


class JobSummary(msgspec.Struct, frozen=True):
    """The content of `_SUCCESS.json`, the same for an unbroken run and a resumed one."""

    identity: dict[str, Any]
    """Everything that the bytes of the parts depend on."""
    rows_in: int
    rows_out: int
    quarantined: int
    unknown: int
    """Rows of which an id is not in the bundle."""
    parts: list[WrittenFile]
    """The files of the output, fragment by fragment."""
    bad_rows: list[WrittenFile]
    """The files of bad rows that were quarantined."""


def run_job(
    job: Job,
    *,
    resume: bool = False,
    overwrite: bool = False,
    engine: Engine = run_locally,
    on_plan: Callable[[Plan, int], None] = lambda plan, rows_done: None,
    on_rows: Callable[[int], None] = lambda n: None,
    finished_elsewhere: Callable[[Plan], JobSummary | None] = lambda plan: None,
) -> JobSummary:
    """Run a job, or the rest of one. Resuming a finished job changes nothing.

    Args:
        job: What to compute, from which input, to which output.
        resume: Continue an earlier run of the same job.
        overwrite: Replace an existing output once the new one is whole.
        engine: Runs the fragments; by default in this process.
        on_plan: Called once, with the plan and the number of input rows that earlier runs have done.
        on_rows: Called with the number of input rows done since its last call.
        finished_elsewhere: Called with the plan before anything is written; if it gives a summary, there is
            nothing left to do.

    Raises:
        OutputError: the output exists without `overwrite`; another job is unfinished or running there.
        InputError, BadRowError: the input can't be read, or has bad rows.
        BundleError, DeviceError, RequestError: the bundle can't answer this.
        JobError: a part can't be written; finished parts are kept.
    """
    recommender = load(job, job.device)
    recommender.check()
    plan = make_plan(job, recommender)
    if summary := finished_elsewhere(plan):
        return summary
    output = plan.output
    if resume and (summary := _finished_job(output, plan, overwrite)):
        if (output / LOCK).exists():  # killed in its last step; on a read-only disk there is none
            (output / LOCK).unlink(missing_ok=True)
        return summary
    check_target(output, overwrite or resume, SUCCESS)
    folder = output.with_name(f".{output.name}.partial")
    for path in (plan.job.bundle, *(file.path for file in plan.files)):
        for place in (output, folder):
            if Path(path).resolve().is_relative_to(place.resolve()):
                raise OutputError(f"{path} lies in {place}, which would be replaced. Write elsewhere.")
    check_ours(folder)
    with _explained(folder), claimed(folder):
        # At once: a worker of an earlier run that is still alive stops when it finds another run's id.
        (folder / LOCK).write_text(plan.run_id)
        if output.exists() and not overwrite:  # another job may have finished before this one had the lock
            if resume and (summary := _finished_job(output, plan, overwrite)):
                return summary
            check_target(output, overwrite, SUCCESS)
        summary = _finished_job(folder, plan, overwrite) if resume else None  # killed before the move
        if summary is None:
            _prepare(folder, plan, resume, overwrite)
            try:
                _check_staged(folder)
                stage(plan, folder)
                _record_staged(folder)
                plan = with_fragments(plan, folder, recommender)
                outcomes = finished(plan, folder)
                on_plan(plan, sum(outcome.rows_in for outcome in outcomes.values()))
                _check_quarantined(plan, outcomes)
                left = [fragment for fragment in plan.fragments if fragment.number not in outcomes]
                with closing(engine(plan, left, folder, recommender, on_rows)) as new:
                    for outcome in new:
                        outcomes[outcome.number] = outcome
                        _check_quarantined(plan, outcomes)
            except ServeError:
                if not any((folder / DONE).glob("*.json")):
                    remove(folder)
                raise
            finally:
                sweep(folder)
            summary = _finish(folder, plan, outcomes)
        _move(folder, plan, summary, overwrite)
        return summary


def _finished_job(folder: Path, plan: Plan, overwrite: bool) -> JobSummary | None:
    """The summary of this job if `folder` holds all of it; None if there is something left to do.

    Raises OutputError: it holds another job, or has lost a part, and may not be overwritten.
    """
    if not (folder / SUCCESS).is_file():
        return None
    marker = (folder / SUCCESS).read_bytes()
    return finished_job(marker, folder, plan, lambda file: file.is_whole(folder), overwrite)


def finished_job(
    marker: bytes, place: Path | str, plan: Plan, is_whole: Callable[[WrittenFile], bool], overwrite: bool
) -> JobSummary | None:
    """The summary in a `_SUCCESS.json` whose bytes are `marker`; None: all is done again, by `overwrite`.

    `is_whole` says whether a file of the output, which lies at `place`, is there as it was written.

    Raises OutputError: it is damaged, another job's, or has lost a file, and may not be overwritten.
    """
    try:
        summary = msgspec.json.decode(marker, type=JobSummary)
    except msgspec.DecodeError as error:
        raise OutputError(f"{place}/{SUCCESS} is damaged ({error}). Start again with --overwrite.") from None
    try:
        _check_same(summary.identity, plan, place)
        for file in (*summary.parts, *summary.bad_rows):
            if not is_whole(file):
                raise OutputError(
                    f"{place}/{file.name} has gone or changed since the job ended. Start again with "
                    f"--overwrite."
                )
    except OutputError:
        if overwrite:
            return None
        raise
    return summary


def _check_same(before: dict[str, Any], plan: Plan, folder: Path | str) -> None:
    """Compare the identity in a folder with the plan's. Raises OutputError: they differ."""
    now = msgspec.json.decode(msgspec.json.encode(plan.identity), type=dict[str, Any])
    if changed := sorted(name for name in before.keys() | now.keys() if before.get(name) != now.get(name)):
        raise OutputError(
            f"the job in {folder} is another one: it differs in {', '.join(changed)}. Run it with what it "
            f"was started with, or start again with --overwrite."
        )


def _prepare(folder: Path, plan: Plan, resume: bool, overwrite: bool) -> None:
    """Keep the finished parts of the same job where it is resumed; otherwise empty the folder."""
    path = folder / PLAN
    if path.is_file() and resume:
        try:
            before = msgspec.json.decode(path.read_bytes(), type=dict[str, Any])
        except msgspec.DecodeError as error:
            raise OutputError(f"{path} is damaged ({error}). Start again with --overwrite.") from None
        _check_same(before, plan, folder)
        sweep(folder)
        return
    if (path.is_file() or (folder / SUCCESS).is_file()) and not overwrite:
        raise OutputError(
            f"{folder} holds an unfinished job for {plan.output}. Finish it with --resume, or start again "
            f"with --overwrite."
        )
    empty(folder)
    write_file(path, msgspec.json.encode(plan.identity))


def _check_quarantined(plan: Plan, outcomes: dict[int, Outcome]) -> None:
    check_bad_rows(plan, sum(outcome.quarantined for outcome in outcomes.values()), [])


def _finish(folder: Path, plan: Plan, outcomes: dict[int, Outcome]) -> JobSummary:
    """Write `_SUCCESS.json`. Raises JobError: a part is missing."""
    if missing := [fragment.number for fragment in plan.fragments if fragment.number not in outcomes]:
        raise JobError(f"{len(missing)} parts are missing, the first is {missing[0]}. Go on with --resume.")
    summary = JobSummary(
        identity=plan.identity,
        rows_in=sum(outcome.rows_in for outcome in outcomes.values()),
        rows_out=sum(outcome.rows_out for outcome in outcomes.values()),
        quarantined=sum(outcome.quarantined for outcome in outcomes.values()),
        unknown=sum(outcome.unknown for outcome in outcomes.values()),
        parts=[part for fragment in plan.fragments for part in outcomes[fragment.number].parts],
        bad_rows=[file for fragment in plan.fragments for file in outcomes[fragment.number].bad_rows],
    )
    write_file(folder / SUCCESS, msgspec.json.format(msgspec.json.encode(summary), indent=2) + b"\n")
    return summary


def _check_staged(folder: Path) -> None:
    """Remove staged inputs of an earlier run whose bytes have changed, so that they are staged again.

    A run that was killed while it staged has recorded none; each file was renamed into place whole.
    """
    path = folder / STAGED
    try:
        written = msgspec.json.decode(path.read_bytes(), type=dict[str, str]) if path.exists() else None
    except msgspec.DecodeError:
        written = {}
    for staged in (folder / INPUT).glob("*"):
        if written is not None and written.get(staged.name) != sha256_of(staged):
            staged.unlink()


def _record_staged(folder: Path) -> None:
    checksums = {path.name: sha256_of(path) for path in sorted((folder / INPUT).glob("*"))}
    write_file(folder / STAGED, msgspec.json.encode(checksums))


def _move(folder: Path, plan: Plan, summary: JobSummary, overwrite: bool) -> None:
    for name in (DONE, INPUT):
        shutil.rmtree(folder / name, ignore_errors=True)
    kept = {SUCCESS, LOCK, *(file.name for file in (*summary.parts, *summary.bad_rows))}
    for found in sorted(folder.rglob("*"), reverse=True):  # what a folder holds before the folder
        if found.is_dir() and not any(found.iterdir()):
            found.rmdir()
        elif found.is_file() and found.relative_to(folder).as_posix() not in kept:
            found.unlink()
    # The lock moves with the folder, so another job finds it locked under either name.
    move_into_place(folder, plan.output, overwrite=overwrite, marker=SUCCESS)
    (plan.output / LOCK).unlink(missing_ok=True)
    if folder.exists():  # the old output
        with suppress(OutputError, OSError), claimed(folder):  # unless another job has claimed it by now
            remove(folder)


@contextmanager
def _explained(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if isinstance(error, ServeError):
            raise
        reason = error.strerror or str(error)
        raise JobError(f"{error.filename or folder} can't be written: {reason}.") from error
