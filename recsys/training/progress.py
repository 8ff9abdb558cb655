"""What a person sees of a training run: a bar while an epoch runs, and a table that grows by a line each."""

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
from recsys.training.run_info import Epoch, RunInfo
from recsys.training.train import Reporter

HEADER = "epoch   train loss   valid RMSE   valid MAE   seconds   ratings/s"


class RateColumn(ProgressColumn):
    """Ratings a second, over the last steps."""

    def render(self, task: Task) -> Text:
        """Show the speed; nothing until there is one."""
        return Text(f"{task.speed:,.0f} ratings/s" if task.speed else "")


@contextmanager
def show_training(console: Console) -> Iterator[Reporter]:
    """Give a reporter that draws on the console; a console that is no terminal gets the table only."""
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), RateColumn())
    progress = Progress(
        *columns, TimeRemainingColumn(), console=console, transient=True, disable=not console.is_terminal
    )
    task = progress.add_task("training")
    n_train = 0

    def start(info: RunInfo, n_ratings: int) -> None:
        nonlocal n_train
        n_train = n_ratings
        done, total = (n * n_ratings for n in (info.epochs_done, info.training.epochs))
        progress.update(task, completed=done, total=total)
        data = info.data
        console.print(
            f"{info.model.kind} on {data.name}: {info.model.n_users:,} users, {info.model.n_items:,} items, "
            f"{n_ratings:,} ratings to train on, {data.n_held_out:,} held out; device {info.device}",
            markup=False,  # a file may be called "ratings[old].csv"
            highlight=False,
        )
        console.print(HEADER, style="bold")
        for epoch in info.history:
            show_epoch(epoch)

    def show_epoch(epoch: Epoch) -> None:
        console.print(
            f"{epoch.epoch:5d} {epoch.train_loss:12.4f} {epoch.valid_rmse:12.4f} {epoch.valid_mae:11.4f} "
            f"{epoch.seconds:9.2f} {n_train / epoch.seconds:11,.0f}",
            highlight=False,
        )

    with progress:
        yield Reporter(start, lambda n_ratings: progress.advance(task, n_ratings), show_epoch)
