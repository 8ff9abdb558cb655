"""One part of a run that is fitted, not trained by gradient; it is committed as a whole."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace

import msgspec
import torch

from recsys.errors import TrainingError
from recsys.models import build
from recsys.models.tables import average_untrained_rows
from recsys.training.checkpoint import Run
from recsys.training.run_info import Iteration
from recsys.training.session import Session


def fit_part(session: Session, run: Run, number: int) -> Run:
    """Fit part `number`, measure it if it predicts ratings, and commit it.

    The history has one entry per reported iteration, with the number of the iteration, or one entry if the
    fit reports none.

    Raises:
        TrainingError: a table is not finite.
        OSError: the folder can't be written.
    """
    part, data, train = run.parts[number], session.interactions, session.split.train
    assert part.kind.fit is not None
    history: list[Iteration] = []
    started = time.perf_counter()

    begun = 0

    def on_progress(done: int, total: int) -> None:
        nonlocal begun
        begun = done + 1
        session.reporter.on_fit(done, total)

    def add(metrics: Mapping[str, float]) -> None:
        seconds = time.perf_counter() - started - sum(iteration.seconds for iteration in history)
        number = max(begun, len(history) + 1)
        history.append(Iteration(number=number, metrics=dict(metrics), seconds=seconds))

    def on_iteration(metrics: Mapping[str, float]) -> None:
        add(metrics)
        session.reporter.on_iteration(history[-1])

    ratings = replace(
        data,
        user_index=data.user_index[train],
        item_index=data.item_index[train],
        ratings=data.ratings[train],
        timestamps=None if data.timestamps is None else data.timestamps[train],
    )
    device = session.team.device
    tables = part.kind.fit(
        ratings,
        part.config,
        seed=run.info.seed,
        device=device,
        on_progress=on_progress,
        on_iteration=on_iteration,
    )
    model = build(part.kind, part.config, data.n_users, data.n_items)
    model.load_state_dict({name: torch.from_numpy(table) for name, table in tables.items()})
    model = model.to(device)
    average_untrained_rows(
        model, session.trained_users, session.trained_items, row_0_only=part.kind.fits_untrained_rows
    )
    for name, table in model.state_dict().items():
        if not table.isfinite().all():
            raise TrainingError(f"fitting {part.kind.name} gave a {name} that is not finite: regularise more")
    reported = bool(history)
    if not reported:
        add({})
    if part.info.objective == "ratings":
        metrics = history[-1].metrics | session.measure(model)
        history[-1] = msgspec.structs.replace(history[-1], metrics=metrics)
    info = session.commit(run.info, number, history, model, optimizer=None)
    if not reported:
        session.reporter.on_iteration(history[-1])
    return replace(run, info=info)
