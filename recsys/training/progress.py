"""Progress of a training run: a table with a row per epoch and, on a terminal, a progress bar."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from recsys.console import Console
from recsys.training.run_info import Iteration, PartInfo, RunInfo
from recsys.training.session import Reporter


class RateColumn(ProgressColumn):
    """Ratings per second, over the last steps."""

    def render(self, task: Task) -> Text:
        """Format the speed; empty before the first step."""
        return Text(f"{task.speed:,.0f} ratings/s" if task.speed else "")


@contextmanager
def show_training(console: Console) -> Iterator[Reporter]:
    """Yield a reporter that writes to the console."""
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), RateColumn())
    progress = Progress(
        *columns, TimeRemainingColumn(), console=console, transient=True, disable=not console.is_terminal
    )
    task = progress.add_task("training")
    n_train = 0
    header = ""

    def on_part(info: RunInfo, part: PartInfo, n_ratings: int) -> None:
        nonlocal n_train, header
        n_train, header = n_ratings, ""
        total = part.training.epochs * n_ratings if part.training else None
        progress.update(task, completed=part.iterations_done * n_ratings, total=total)
        data = info.data
        console.print(
            f"{part.kind} on {data.name}: {data.n_users:,} users, {data.n_items:,} items, "
            f"{n_ratings:,} ratings to train on, {data.n_held_out:,} held out; device {info.device}",
            markup=False,  # a file may be called "ratings[old].csv"
            highlight=False,
        )
        for iteration in part.history:
            on_iteration(iteration)

    def on_iteration(iteration: Iteration) -> None:
        nonlocal header
        metrics = {_title(name): value for name, value in iteration.metrics.items()}
        columns = "   ".join(["epoch", *metrics, "seconds", "ratings/s"])
        if columns != header:  # before the first row, and if the metrics change
            console.print(columns, style="bold")
            header = columns
        values = "".join(f"{value:{3 + len(title)}.4f}" for title, value in metrics.items())
        speed = n_train / iteration.seconds
        row = f"{iteration.number:5d}{values}{iteration.seconds:10.2f}{speed:12,.0f}"
        console.print(row, highlight=False)

    with progress:
        yield Reporter(
            on_part=on_part,
            on_progress=lambda n_ratings: progress.advance(task, n_ratings),
            on_fit=lambda done, total: progress.update(task, completed=done * n_train, total=total * n_train),
            on_iteration=on_iteration,
        )


def _title(metric: str) -> str:
    return metric.replace("_", " ").replace("rmse", "RMSE").replace("mae", "MAE").replace("ndcg at ", "nDCG@")
