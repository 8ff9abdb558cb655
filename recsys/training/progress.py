"""Progress of a training run: a table with a row per epoch or iteration, and a progress bar on a terminal."""

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
from recsys.training.learner import is_sparse
from recsys.training.overfitting import overfitting_hint
from recsys.training.run_info import Iteration, PartInfo, RunInfo, TrainingConfig
from recsys.training.session import Reporter


class RateColumn(ProgressColumn):
    """Ratings per second, over the last steps."""

    def render(self, task: Task) -> Text:
        """Format the speed; empty before the first step, and where a fit counts iterations."""
        return Text(f"{task.speed:,.0f} ratings/s" if task.speed and task.fields["counts_ratings"] else "")


@contextmanager
def show_training(console: Console, *, shards: bool = False) -> Iterator[Reporter]:
    """Yield a reporter that writes to the console; `shards`: the tables lie over several processes."""
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), RateColumn())
    progress = Progress(
        *columns, TimeRemainingColumn(), console=console, transient=True, disable=not console.is_terminal
    )
    task = progress.add_task("training", counts_ratings=True)
    n_train = 0
    config: TrainingConfig | None = None
    history: list[Iteration] = []
    header = ""

    def on_part(info: RunInfo, part: PartInfo, n_ratings: int) -> None:
        nonlocal task, n_train, config, history, header
        n_train, config, history, header = n_ratings, part.training, [], ""
        progress.remove_task(task)  # a task that has a total can't lose it again
        task = progress.add_task(
            part.kind,
            completed=part.iterations_done * n_ratings if part.training else 0,
            total=part.training.epochs * n_ratings if part.training else None,
            counts_ratings=part.training is not None,
        )
        data = info.data
        n_held_out = f"{data.n_held_out:,}" if data.n_held_out else "none"
        sparse = part.training and is_sparse(part, data.n_users, data.n_items)
        updates = "; sharded tables" if shards else "; sparse updates" if sparse else ""
        console.print(
            f"{part.kind} on {data.name}: {data.n_users:,} users, {data.n_items:,} items, "
            f"{n_ratings:,} ratings to train on, {n_held_out} held out; device {info.device}{updates}",
            markup=False,  # a file may be called "ratings[old].csv"
            highlight=False,
        )
        for iteration in part.history:
            on_iteration(iteration)

    def on_iteration(iteration: Iteration) -> None:
        nonlocal header
        metrics = {_title(name): value for name, value in iteration.metrics.items()}
        counted = "epoch" if config else "iteration"
        columns = "   ".join([counted, *metrics, "seconds", *(["ratings/s"] if config else [])])
        if columns != header:  # before the first row, and if the metrics change
            console.print(columns, style="bold")
            header = columns
        values = "".join(f"{value:{3 + len(title)}.4f}" for title, value in metrics.items())
        row = f"{iteration.number:{len(counted)}d}{values}{iteration.seconds:10.2f}"
        if config:
            row += f"{n_train / max(iteration.seconds, 1e-9):12,.0f}"  # a run.json may say 0
        console.print(row, highlight=False)
        history.append(iteration)
        if config and iteration.number == config.epochs and (hint := overfitting_hint(history, config)):
            console.print(hint, highlight=False)

    with progress:
        yield Reporter(
            on_part=on_part,
            on_progress=lambda n_ratings: progress.advance(task, n_ratings),
            on_fit=lambda done, total: progress.update(task, completed=done, total=total),
            on_iteration=on_iteration,
        )


def _title(metric: str) -> str:
    if metric == "train_loss":
        return "train MSE"  # the unit is not that of the RMSE beside it
    return metric.replace("_", " ").replace("rmse", "RMSE").replace("mae", "MAE").replace("ndcg at ", "nDCG@")
