"""The options of the batch commands; running a job, with a progress bar and a report."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from serve.commands.options import (
    choice_option,
    device_option,
    inapplicable,
    json_option,
    of_file,
    print_json,
    tf32_option,
)
from serve.reading.options import IntegerRange, NumberRange
from serve.terminal import counted, warn

if TYPE_CHECKING:
    from rich.progress import TaskID

    from serve.batch.fragments import Engine
    from serve.batch.job import Job, Plan
    from serve.batch.recommend import Recommend
    from serve.batch.run import JobSummary
    from serve.batch.score import Score

Command = TypeVar("Command", bound=Callable[..., Any])

EXIT_QUARANTINED = 3
EXIT_INTERRUPTED = 130
ROWS = IntegerRange(1, 1 << 31)

OPTIONS = (
    click.option("--user-column", metavar="NAME", help="Column of user ids. [default: user_id, userId, …]"),
    click.option(
        "--delimiter",
        metavar="CHARACTER",
        help="What separates the cells of text, such as tab. [default: a comma; in .tsv a tab]",
    ),
    click.option(
        "--heading",
        metavar="NAMES",
        help="Columns of text whose first line is data, in order: user_id,item_id,rating.",
    ),
    click.option(
        "--output",
        type=click.Path(),
        help="The folder to make, or an address such as s3://bucket/lists; it appears once it is whole.",
    ),
    click.option(
        "--work-folder",
        type=click.Path(file_okay=False, path_type=Path),
        help="s3://… and the like: where copies of input and output lie until the job ends. "
        "[default: .NAME.job beside the output, or here]",
    ),
    choice_option("--format", "parquet", "csv", "jsonl", help="File format of the parts."),
    click.option(
        "--partition-by",
        metavar="COLUMN",
        help="A column of the output whose values become folders, COLUMN=VALUE, as Hive and Spark have them.",
    ),
    click.option("--resume", is_flag=True, help="Continue the same job after it was stopped."),
    click.option("--overwrite", is_flag=True, help="Replace OUTPUT once the new one is whole."),
    choice_option(
        "--on-bad-row",
        "fail",
        "quarantine",
        help="Rows that can't be read: stop at the first, or write them to _quarantine (exit code 3).",
    ),
    click.option(
        "--max-bad-rows", type=IntegerRange(min=0), help="Stop when more rows than this are quarantined."
    ),
    click.option("--part-rows", type=ROWS, help="Rows of the input for one part of the output."),
    click.option("--batch-rows", type=ROWS, help="Rows of one batch; about eight are in memory at once."),
    choice_option(
        "--engine", "local", "ray", help="Where the job runs: on this machine, or on a Ray cluster."
    ),
    click.option(
        "--address", help="ray: the cluster. [default: one that is started on this machine for this job]"
    ),
    click.option(
        "--workers",
        type=IntegerRange(min=1),
        help="Worker processes. [default: for score, one and one more for every 16 MiB of input, "
        "up to the CPUs; for recommend, one, or one for each node of a cluster]",
    ),
    click.option(
        "--gpus-per-worker",
        type=NumberRange(min=0),
        default=0,
        show_default=True,
        help="ray: GPUs of each worker.",
    ),
    device_option,
    tf32_option,
    json_option,
)


def batch_options(unknown: str) -> Callable[[Command], Command]:
    """The options of a batch command, as one decorator; `unknown` is the help of --unknown."""
    unknown_option = choice_option("--unknown", "average", "null", "error", help=unknown)

    def add(command: Command) -> Command:
        for option in reversed((unknown_option, *OPTIONS)):
            command = option(command)
        return command

    return add


def run_and_report(
    task: Score | Recommend, bundle: Path, input: str | None, options: dict[str, Any], as_json: bool
) -> None:
    """Run a job with a progress bar on stderr, print its counts, and exit with 3 if rows were quarantined.

    `options` are the values of `OPTIONS`; those named like fields of `Job` go there.
    """
    if options["output"] is None:
        raise click.UsageError("Missing option '--output', the folder to make.")
    from serve.batch.job import Job

    if options["max_bad_rows"] is not None and options["on_bad_row"] == "fail" and of_file("max_bad_rows"):
        inapplicable("max_bad_rows", "is for --on-bad-row quarantine.")
        options["max_bad_rows"] = None
    fields = {name: value for name, value in options.items() if name in Job.__struct_fields__}
    job = Job(task=task, bundle=str(bundle), input=input, **fields)
    started = time.monotonic()
    show = Progress()
    summary = None
    with suppress(KeyboardInterrupt), show.bar, _interruptible(show):
        summary = _runner(job, options["work_folder"], show)(
            job,
            resume=options["resume"],
            overwrite=options["overwrite"],
            engine=_engine(options),
            on_plan=show.on_plan,
            on_rows=show.on_rows,
        )
    if summary is None:
        warn("Interrupted. Finished parts are kept: run the same command with --resume.")
        os._exit(EXIT_INTERRUPTED)  # as a second Ctrl-C does
    context = click.get_current_context()
    if summary.quarantined:
        context.meta["exit_code"] = EXIT_QUARANTINED  # also if stdout is closed, see recsys/cli.py
    _print(job, summary, time.monotonic() - started, show.rows, as_json)
    context.exit(context.meta.get("exit_code", 0))


def _runner(job: Job, work: Path | None, show: Progress) -> Callable[..., JobSummary]:
    """What runs the job: where it lies in a store, by way of a folder of this machine."""
    from serve.batch.object_store import is_address

    if is_address(job.output) or is_address(job.input or ""):
        from serve.batch.stored_job import default_work_folder, run_stored_job

        return partial(run_stored_job, work=work or default_work_folder(job), on_bytes=show.on_bytes)
    if work is not None:
        inapplicable("work_folder", "is for an input or an output at s3://… and the like.")
    from serve.batch.run import run_job

    return run_job


@contextmanager
def _interruptible(show: Progress) -> Iterator[None]:
    """Ctrl-C stops the job; a second one exits at once, while threads still end. Every file is then whole."""

    def stop(number: int, frame: object) -> None:
        signal.signal(signal.SIGINT, leave)
        raise KeyboardInterrupt

    def leave(number: int, frame: object) -> None:
        show.bar.console.show_cursor()  # which the bar hides
        os._exit(EXIT_INTERRUPTED)

    before = signal.signal(signal.SIGINT, stop)
    try:
        yield
    finally:
        if signal.getsignal(signal.SIGINT) is stop:  # not interrupted
            signal.signal(signal.SIGINT, before)


def _engine(options: dict[str, Any]) -> Engine:
    ray_only = {name: options[name] for name in ("address", "gpus_per_worker")}
    if options["engine"] == "local":
        for name in [name for name, value in ray_only.items() if value]:
            inapplicable(name, "is for --engine ray.")
        from serve.batch.local_engine import run_locally

        return partial(run_locally, workers=options["workers"])
    from serve.batch.ray_engine import ray_engine

    return ray_engine(workers=options["workers"], **ray_only)


def _print(job: Job, summary: JobSummary, seconds: float, rows: int, as_json: bool) -> None:
    from serve.batch.object_store import without_query

    output = without_query(job.output)
    if as_json:
        counts = {name: getattr(summary, name) for name in ("rows_in", "rows_out", "quarantined", "unknown")}
        print_json({"output": output, **counts, "parts": len(summary.parts), "seconds": round(seconds, 3)})
        return
    n_bytes = sum(part.bytes for part in summary.parts)
    click.echo(
        f"{output}: {counted(summary.rows_out, 'row')}, {n_bytes:,} bytes, parts: {len(summary.parts)}; "
        f"{counted(rows, 'row')} read in {seconds:.1f} s ({rows / seconds:,.0f} rows/s)"
    )
    if summary.unknown:
        answer = "no answer" if job.task.unknown == "null" else "the average's answer"
        click.echo(
            f"Rows with an id that is not in the bundle: {summary.unknown:,} of {summary.rows_in:,}. "
            f"They got {answer}: `known` is false there."
        )
    if summary.quarantined:
        place = f"{output.rstrip('/')}/_quarantine"
        click.echo(f"Bad rows: {summary.quarantined:,}. They are in {place}, with the reasons.")


class Progress:
    """On a terminal, a progress bar with rows/s and the time left."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Bar

        self.rows = 0
        console = Console(stderr=True)
        self.bar = Bar(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._copied: dict[str, TaskID] = {}
        self._task = self.bar.add_task("rows", total=None, rate="")
        self._started = time.monotonic()

    def on_plan(self, plan: Plan, rows_done: int) -> None:
        """See `run_job`."""
        total = sum(fragment.n_rows for fragment in plan.fragments)
        self.bar.update(self._task, total=total, completed=rows_done)
        self._started = time.monotonic()

    def on_rows(self, n: int) -> None:
        """See `run_job`."""
        self.rows += n
        rate = self.rows / max(1e-9, time.monotonic() - self._started)
        self.bar.update(self._task, advance=n, rate=f"{rate:,.0f} rows/s")

    def on_bytes(self, what: str, done: int, total: int) -> None:
        """See `run_stored_job`."""
        if what not in self._copied:
            self._copied[what] = self.bar.add_task(f"{what}, MB", total=total // 1_000_000, rate="")
        self.bar.update(self._copied[what], completed=done // 1_000_000)
