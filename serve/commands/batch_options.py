"""What the batch commands share: their options, and how a job is shown while it runs and when it is done."""

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

from serve.commands.options import device_option, json_option, print_json
from serve.terminal import warn

if TYPE_CHECKING:
    from serve.batch.engine import Engine
    from serve.batch.job import Job, Plan
    from serve.batch.recommend import Recommend
    from serve.batch.run import Summary, Watcher
    from serve.batch.score import Score

Command = TypeVar("Command", bound=Callable[..., Any])

EXIT_QUARANTINED = 3
EXIT_INTERRUPTED = 130
MAX_ROWS = 1 << 31

OF_THE_JOB = ("device", "format", "on_bad_row", "max_bad_rows", "part_rows", "batch_rows")
"""Options that are fields of `serve.batch.job.Job`."""

OPTIONS = (
    click.option(
        "--output", type=click.Path(path_type=Path), help="The folder to make, whole or not at all."
    ),
    click.option(
        "--format",
        type=click.Choice(["parquet", "csv", "jsonl"]),
        default="parquet",
        show_default=True,
        help="What the parts are written as.",
    ),
    click.option("--resume", is_flag=True, help="Go on with the same job after it was stopped."),
    click.option("--overwrite", is_flag=True, help="Replace OUTPUT once the new one is whole."),
    click.option(
        "--on-bad-row",
        type=click.Choice(["fail", "quarantine"]),
        default="fail",
        show_default=True,
        help="Rows without an answer: stop at the first, or set them aside in _quarantine (exit code 3).",
    ),
    click.option(
        "--max-bad-rows", type=click.IntRange(min=0), help="Stop when more than so many are set aside."
    ),
    click.option(
        "--part-rows", type=click.IntRange(1, MAX_ROWS), help="Rows of the input for one part of the output."
    ),
    click.option(
        "--batch-rows", type=click.IntRange(1, MAX_ROWS), help="Rows in memory at once, times about eight."
    ),
    click.option(
        "--engine",
        type=click.Choice(["local", "ray"]),
        default="local",
        show_default=True,
        help="Where the work is done: on this machine, or on a Ray cluster.",
    ),
    click.option("--address", help="ray: the cluster. [default: one that is started here, for this job]"),
    click.option(
        "--workers",
        type=click.IntRange(min=1),
        help="Processes that do the work. [default: for score, one and one more for every 16 MiB of input, "
        "up to the CPUs; for recommend, one, or one for each node of a cluster]",
    ),
    click.option(
        "--gpus-per-worker",
        type=click.FloatRange(min=0),
        default=0,
        show_default=True,
        help="ray: GPUs of each.",
    ),
)


def batch_options(unknown: str) -> Callable[[Command], Command]:
    """The options of a batch command, as one decorator; `unknown` is the help of --unknown."""
    unknown_option = click.option(
        "--unknown",
        type=click.Choice(["average", "null", "error"]),
        default="average",
        show_default=True,
        help=unknown,
    )

    def add(command: Command) -> Command:
        for option in reversed((unknown_option, *OPTIONS, device_option, json_option)):
            command = option(command)
        return command

    return add


def run_and_report(
    task: Score | Recommend, bundle: Path, input: str | None, options: dict[str, Any], as_json: bool
) -> None:
    """Run a job with a progress bar on stderr, print what it did, and exit with 3 where rows were set aside.

    Args:
        task: What to do.
        bundle: What answers.
        input: Where the rows are; None: every user of the bundle.
        options: The values of `OPTIONS`, and the device.
        as_json: Print one JSON object instead of a summary for people.
    """
    if options["output"] is None:
        raise click.UsageError("Missing option '--output', the folder to make.")
    from serve.batch.job import Job
    from serve.batch.run import run_job

    given = {name: options[name] for name in OF_THE_JOB}
    job = Job(task=task, bundle=str(bundle), input=input, output=str(options["output"]), **given)
    started = time.monotonic()
    show = Progress()
    summary = None
    with suppress(KeyboardInterrupt), show, _interruptible(show):
        summary = run_job(
            job,
            resume=options["resume"],
            overwrite=options["overwrite"],
            engine=_engine(options),
            watcher=show.watcher,
        )
    if summary is None:
        warn("Interrupted. Finished parts are kept: run the same command with --resume.")
        os._exit(EXIT_INTERRUPTED)  # as another Ctrl-C does
    context = click.get_current_context()
    if summary.quarantined:
        context.meta["exit_code"] = EXIT_QUARANTINED  # also where nobody reads what is printed
    _print(job, summary, time.monotonic() - started, show.rows, as_json)
    context.exit(context.meta.get("exit_code", 0))


@contextmanager
def _interruptible(show: Progress) -> Iterator[None]:
    """Ctrl-C stops the job; another one, while its threads come to their end, stops it at once.

    Python itself would begin to take down what those threads still use. Nothing is lost by that: what is
    written appears whole, or not at all.
    """

    def stop(number: int, frame: object) -> None:
        signal.signal(signal.SIGINT, leave)
        raise KeyboardInterrupt

    def leave(number: int, frame: object) -> None:
        show.restore_terminal()
        os._exit(EXIT_INTERRUPTED)

    before = signal.signal(signal.SIGINT, stop)
    try:
        yield
    finally:
        if signal.getsignal(signal.SIGINT) is stop:  # nobody has interrupted it
            signal.signal(signal.SIGINT, before)


def _engine(options: dict[str, Any]) -> Engine:
    ray_only = {name: options[name] for name in ("address", "gpus_per_worker")}
    if options["engine"] == "local":
        if given := [name for name, value in ray_only.items() if value]:
            raise click.UsageError(f"--{given[0].replace('_', '-')} is for --engine ray.")
        from serve.batch.local_engine import run_locally

        return partial(run_locally, workers=options["workers"])
    from serve.batch.ray_engine import ray_engine

    return ray_engine(workers=options["workers"], **ray_only)


def _print(job: Job, summary: Summary, seconds: float, rows: int, as_json: bool) -> None:
    if as_json:
        found = {
            "output": job.output,
            "rows_in": summary.rows_in,
            "rows_out": summary.rows_out,
            "quarantined": summary.quarantined,
            "parts": len(summary.parts),
            "seconds": round(seconds, 3),
        }
        print_json(found)
        return
    n_bytes = sum(part["bytes"] for part in summary.parts)
    click.echo(
        f"{job.output}: {summary.rows_out:,} rows, {n_bytes:,} bytes, parts: {len(summary.parts)}; "
        f"{rows:,} rows read in {seconds:.1f} s ({rows / seconds:,.0f} rows/s)"
    )
    if summary.quarantined:
        click.echo(
            f"{summary.quarantined:,} rows had no answer; {job.output}/_quarantine tells which and why."
        )


class Progress:
    """A bar with rows/s and the time left, on a terminal; nothing elsewhere."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Bar

        self.rows = 0
        console = Console(stderr=True)
        self._bar = Bar(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task("rows", total=None, rate="")
        self._started = time.monotonic()

    @property
    def watcher(self) -> Watcher:
        """Who hears of the job."""
        from serve.batch.run import Watcher

        return Watcher(self._plan, self._rows)

    def __enter__(self) -> None:
        self._bar.start()

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def restore_terminal(self) -> None:
        """Give back the cursor that a bar hides."""
        self._bar.console.show_cursor()

    def _plan(self, plan: Plan, rows_done: int) -> None:
        total = sum(fragment.n_rows for fragment in plan.fragments)
        self._bar.update(self._task, total=total, completed=rows_done)
        self._started = time.monotonic()

    def _rows(self, n: int) -> None:
        self.rows += n
        rate = self.rows / max(1e-9, time.monotonic() - self._started)
        self._bar.update(self._task, advance=n, rate=f"{rate:,.0f} rows/s")
