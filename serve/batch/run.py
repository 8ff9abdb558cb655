"""A whole job: planned, done by an engine, and given its name when it is whole.

While it runs, everything lies in a folder beside the output (`serve.batch.job_folder`). At its end
`_SUCCESS.json` is written, what only the running job needs goes, and the folder takes the output's name; with
`overwrite`, the folder that was there is swapped out in the same step.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from serve.batch.engine import Engine
from serve.batch.fragments import Outcome, check_bad_rows, finished, load
from serve.batch.job import Job, Plan
from serve.batch.job_folder import (
    DONE,
    INPUT,
    LOCK,
    PLAN,
    QUARANTINE,
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


@dataclass(frozen=True)
class Watcher:
    """Who is told how the job goes. The defaults tell nobody."""

    on_plan: Callable[[Plan, int], None] = lambda plan, rows_done: None
    """Called once, with the rows that an earlier run has done."""
    on_rows: Callable[[int], None] = lambda n: None
    """Called with the number of rows answered since its last call."""


class Summary(msgspec.Struct, frozen=True):
    """What a job did: the whole of `_SUCCESS.json`, the same for an unbroken run and a resumed one."""

    identity: dict[str, Any]
    """All that the bytes of the parts depend on."""
    rows_in: int
    rows_out: int
    quarantined: int
    parts: list[dict[str, Any]]
    """Name, rows and bytes of each."""


@dataclass
class _Tally:
    """The outcomes so far."""

    plan: Plan
    outcomes: dict[int, Outcome] = field(default_factory=dict)

    def add(self, outcome: Outcome) -> None:
        self.outcomes[outcome.number] = outcome
        check_bad_rows(self.plan, sum(o.quarantined for o in self.outcomes.values()), [])


def run_job(
    job: Job,
    *,
    resume: bool = False,
    overwrite: bool = False,
    engine: Engine = run_locally,
    watcher: Watcher = Watcher(),
) -> Summary:
    """Do a job, or the rest of one. A finished job is left as it is when it is resumed.

    Args:
        job: What to do.
        resume: Go on with what an earlier run of the same job has left.
        overwrite: Replace an output that is there, once the new one is whole.
        engine: What does the fragments; by default this process.
        watcher: Who is told how it goes.

    Raises:
        OutputError: an output is there without `overwrite`, or the rest of another job, or a running job.
        InputError, BadRowError: the input can't be read, or has rows without an answer.
        BundleError, DeviceError, RequestError: the bundle can't answer this.
        JobError: a part can't be written; what is finished is kept.
    """
    recommender = load(job.bundle, job.device)
    recommender.check()
    plan = make_plan(job, recommender)
    output = plan.output
    if resume and (finished_before := _finished_before(output, plan, overwrite)):
        return finished_before
    # Where another job makes it just now, the check under the lock decides.
    check_target(output, overwrite or resume, SUCCESS)
    folder = output.with_name(f".{output.name}.partial")
    _check_apart(plan, folder)
    check_ours(folder)
    with _explained(folder), claimed(folder):
        # First of all: who still works for an earlier run is to leave the folder alone.
        (folder / LOCK).write_text(plan.run_id)
        if output.exists() and not overwrite:  # another job has made it, while this one waited for the lock
            if all(found.name == LOCK for found in folder.iterdir()):
                remove(folder)
            if resume and (finished_before := _finished_before(output, plan, overwrite)):
                return finished_before
            check_target(output, overwrite, SUCCESS)
        if resume and (folder / SUCCESS).is_file():  # killed in its very last steps
            summary = _read_summary(folder)
            _check_same(summary.identity, plan, folder)
            if not _lost_part(folder, summary):
                _put_in_place(folder, plan, summary, overwrite)
                return summary
            empty(folder)
        _prepare(folder, plan, resume=resume, overwrite=overwrite)
        try:
            stage(plan, folder)
            plan = with_fragments(plan, folder, recommender)
            tally = _Tally(plan)
            for outcome in finished(plan, folder).values():
                tally.add(outcome)
            watcher.on_plan(plan, sum(done.rows_in for done in tally.outcomes.values()))
            left = [fragment for fragment in plan.fragments if fragment.number not in tally.outcomes]
            engine(plan, left, folder, recommender, watcher.on_rows, tally.add)
        except ServeError:
            if not finished(plan, folder):
                remove(folder)
            raise
        finally:
            sweep(folder)
        return _finish(folder, plan, overwrite)


def _check_apart(plan: Plan, folder: Path) -> None:
    """Refuse an output, and a folder to make it in, that hold what the job reads.

    Raises:
        OutputError: so it is.
    """
    for path in (plan.job.bundle, *(file.path for file in plan.files)):
        for place in (plan.output, folder):
            if Path(path).resolve().is_relative_to(place.resolve()):
                raise OutputError(f"{path} lies in {place}, which would be replaced. Write elsewhere.")


def _prepare(folder: Path, plan: Plan, *, resume: bool, overwrite: bool) -> None:
    """Make the folder ready: empty, or with what an earlier run of the same job has done."""
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


def _check_same(before: dict[str, Any], plan: Plan, folder: Path) -> None:
    now = _plain(plan.identity)
    if changed := sorted(name for name in before.keys() | now.keys() if before.get(name) != now.get(name)):
        raise OutputError(
            f"the job in {folder} is another one: it differs in {', '.join(changed)}. Run it with what it "
            f"was started with, or start again with --overwrite."
        )


def _finished_before(output: Path, plan: Plan, overwrite: bool) -> Summary | None:
    """What the output says, where it is this very job, done; None where there is something to do."""
    if not (output / SUCCESS).is_file():
        return None
    summary = _read_summary(output)
    if summary.identity != _plain(plan.identity):
        if not overwrite:
            _check_same(summary.identity, plan, output)
        return None
    if lost := _lost_part(output, summary):
        if overwrite:
            return None
        raise OutputError(
            f"{output} was whole, but {lost} has gone or changed since. Make it again with --overwrite."
        )
    if (output / LOCK).exists():  # of a job that was killed in its very last step
        (output / LOCK).unlink(missing_ok=True)
    return summary


def _lost_part(folder: Path, summary: Summary) -> str | None:
    """The name of the first part that is not there as it was written; None where all are."""
    for part in summary.parts:
        name: str = part["name"]
        path = folder / name
        if not path.is_file() or path.stat().st_size != part["bytes"]:
            return name
    return None


def _read_summary(folder: Path) -> Summary:
    try:
        return msgspec.json.decode((folder / SUCCESS).read_bytes(), type=Summary)
    except msgspec.DecodeError as error:
        raise OutputError(f"{folder / SUCCESS} is damaged ({error}). Start again with --overwrite.") from None


def _plain(identity: dict[str, object]) -> dict[str, Any]:
    """As it is after it was written and read."""
    return msgspec.json.decode(msgspec.json.encode(identity), type=dict[str, Any])


def _finish(folder: Path, plan: Plan, overwrite: bool) -> Summary:
    outcomes = finished(plan, folder)
    if missing := [fragment.number for fragment in plan.fragments if fragment.number not in outcomes]:
        raise JobError(f"{len(missing)} parts are not there, the first is {missing[0]}. Go on with --resume.")
    ordered = [outcomes[fragment.number] for fragment in plan.fragments]
    parts = [
        {"name": plan.part_name(fragment), "rows": outcome.rows_out, "bytes": outcome.bytes}
        for fragment, outcome in zip(plan.fragments, ordered, strict=True)
    ]
    summary = Summary(
        identity=plan.identity,
        rows_in=sum(outcome.rows_in for outcome in ordered),
        rows_out=sum(outcome.rows_out for outcome in ordered),
        quarantined=sum(outcome.quarantined for outcome in ordered),
        parts=parts,
    )
    write_file(folder / SUCCESS, msgspec.json.format(msgspec.json.encode(summary), indent=2) + b"\n")
    _put_in_place(folder, plan, summary, overwrite)
    return summary


def _put_in_place(folder: Path, plan: Plan, summary: Summary, overwrite: bool) -> None:
    for name in (DONE, INPUT):
        shutil.rmtree(folder / name, ignore_errors=True)
    kept = {SUCCESS, QUARANTINE, LOCK, *(part["name"] for part in summary.parts)}
    for found in folder.iterdir():
        if found.name not in kept:
            found.unlink()
    # The lock goes with the folder: whoever comes meanwhile finds it held, under either name.
    move_into_place(folder, plan.output, overwrite=overwrite, marker=SUCCESS)
    (plan.output / LOCK).unlink(missing_ok=True)
    if folder.exists():  # what was swapped out
        with suppress(OutputError, OSError), claimed(folder):  # by now another job may have claimed it
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
