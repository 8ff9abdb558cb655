"""A whole training run: from ratings to a run folder, in one go or resumed."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import msgspec
import numpy as np
import torch
from torch import Tensor, nn

from recsys.data.interactions import Interactions
from recsys.data.splits import Split, split
from recsys.errors import ConfigError, TrainingError
from recsys.models import Config, MlpConfig, build
from recsys.models.tables import average_untrained_rows
from recsys.training.batches import Ratings, epoch_seed, n_batches
from recsys.training.checkpoint import Run, load_run
from recsys.training.config import TrainingConfig
from recsys.training.device import CompileMode, DeviceName, fitting_threads, should_compile
from recsys.training.distributed import Team, join_team
from recsys.training.loop import measure, train_epoch
from recsys.training.optimizer import make_optimizer, optimizer_state, restore_optimizer
from recsys.training.pretrained import KeptRows, Start, take_over
from recsys.training.run_folder import RunFolder, current_versions
from recsys.training.run_info import FORMAT_VERSION, DataInfo, Epoch, ModelInfo, RunInfo
from recsys.training.settings import Settings


@dataclass(frozen=True)
class Machine:
    """Where a run is trained; changes its speed, not what it is."""

    device: DeviceName = "auto"
    compile: CompileMode = "auto"


@dataclass(frozen=True)
class Reporter:
    """Who is told how the run goes. The defaults tell nobody."""

    on_start: Callable[[RunInfo, int], None] = lambda info, n_train: None
    """Called once with the run, its history as far as it has one, and the number of ratings in an epoch."""
    on_progress: Callable[[int], None] = lambda n_ratings: None
    """Called every few steps with the number of ratings done since the last call."""
    on_epoch: Callable[[Epoch], None] = lambda epoch: None
    """Called after each epoch, once it is on disk."""


def train(
    interactions: Interactions,
    settings: Settings,
    output: Path,
    *,
    start: Start | None = None,
    overwrite: bool = False,
    machine: Machine = Machine(),
    reporter: Reporter = Reporter(),
) -> Run:
    """Train a new model and leave a run folder; `start` gives it weights from elsewhere, to begin with.

    Raises:
        ConfigError: `output` is taken, another training writes there, or the device is not there.
        DataError: the data can't be split so.
        TrainingError: the loss is no longer finite; epochs that are on disk stay.
        OSError: the folder can't be written.
    """
    with join_team(machine.device) as team, ExitStack() as stack:
        parts = split(interactions, settings.split)
        config = settings.config.resolve(_range(interactions.ratings[parts.train]))
        training = settings.training
        if training.weight_decay is None:
            training = replace(training, weight_decay=config.default_weight_decay)
        check_steps(len(parts.train), training, config, team)
        held_out = np.zeros(len(interactions), dtype=bool)
        held_out[parts.valid] = True
        folder = None
        if team.leads:
            folder = stack.enter_context(RunFolder.create(output, overwrite=overwrite))
        info = RunInfo(
            format_version=FORMAT_VERSION,
            model=ModelInfo(
                kind=settings.kind,
                config=asdict(config),
                n_users=interactions.n_users,
                n_items=interactions.n_items,
            ),
            data=DataInfo(
                name=interactions.name,
                sha256=interactions.sha256,
                licence=interactions.licence,
                item_key=interactions.item_key,
                n_ratings=len(interactions),
                n_held_out=len(parts.valid),
                ratings_range=_range(interactions.ratings),
            ),
            split=settings.split,
            training=training,
            device=str(team.device),
            history=[],
            weights="",
            optimizer="",
            files=folder.write_data(interactions, held_out) if folder else {},
            versions=current_versions(),
            started_from=start.summary if start else None,
        )
        torch.manual_seed(epoch_seed(training.seed, 0))
        # Made on the CPU and then moved, so that a seed means the same start on every device.
        model = build(settings.kind, config, interactions.n_users, interactions.n_items)
        if start:
            take_over(model, start)
        model = model.to(team.device)
        optimizer = make_optimizer(model, training)
        info = _fit(folder, info, model, optimizer, interactions, parts, machine, reporter, team)
        return Run(output.absolute(), info)


def resume(output: Path, *, machine: Machine = Machine(), reporter: Reporter = Reporter()) -> Run:
    """Continue a run after its last whole epoch; a finished run is returned as it is.

    On the same machine's CPU it ends with the weights of an unbroken run, bit for bit.

    Raises:
        CheckpointError: the run can't be read.
        ConfigError, TrainingError, OSError: as `train` does.
    """
    run = load_run(output)
    with join_team(machine.device) as team, ExitStack() as stack:
        folder = stack.enter_context(RunFolder.resume(output)) if team.leads else None
        interactions = run.interactions()
        model = run.model().to(team.device)
        optimizer = make_optimizer(model, run.info.training)
        restore_optimizer(optimizer, model, run.optimizer_state(), run.path / run.info.optimizer)
        info = msgspec.structs.replace(run.info, device=str(team.device), versions=current_versions())
        info = _fit(folder, info, model, optimizer, interactions, run.split(), machine, reporter, team)
        return Run(run.path, info)


def _fit(
    folder: RunFolder | None,
    info: RunInfo,
    model: nn.Module,
    optimizer: torch.optim.AdamW,
    interactions: Interactions,
    parts: Split,
    machine: Machine,
    reporter: Reporter,
    team: Team,
) -> RunInfo:
    """Train the epochs that are left; without a folder, and unheard, on a rank that does not lead."""
    reporter = reporter if team.leads else Reporter()
    data = _ratings(interactions, parts.train, team.device)
    valid = _ratings(interactions, parts.valid, team.device)
    trained_users = _touched(data.user_index, info.model.n_users)
    trained_items = _touched(data.item_index, info.model.n_items)
    kept = KeptRows(model, trained_items) if info.started_from else None
    parallel = team.parallel(model)
    forward = (
        torch.compile(parallel, dynamic=True) if should_compile(machine.compile, team.device) else parallel
    )
    n_parameters = sum(parameter.numel() for parameter in model.parameters())
    reporter.on_start(info, len(data.ratings))
    for number in range(info.epochs_done + 1, info.training.epochs + 1):
        started = time.perf_counter()
        with fitting_threads(team.device, n_parameters):
            train_loss = train_epoch(
                model, forward, optimizer, data, info.training, number, reporter.on_progress, team
            )
        team.align(model)  # so that what is measured is what is written
        if kept:
            kept.restore(model)
        average_untrained_rows(model, trained_users, trained_items | kept.items if kept else trained_items)
        errors = measure(model, valid, team)
        _check_finite(train_loss, model, number, info)
        epoch = Epoch(
            epoch=number,
            train_loss=train_loss,
            valid_rmse=errors.rmse,
            valid_mae=errors.mae,
            seconds=time.perf_counter() - started,
        )
        info = msgspec.structs.replace(info, history=[*info.history, epoch])
        if folder:
            info = folder.commit(info, model.state_dict(), optimizer_state(optimizer, model))
        reporter.on_epoch(epoch)
    team.wait()  # no rank is done before the last epoch is on disk
    return info


def _range(ratings: np.ndarray) -> tuple[float, float]:
    return float(ratings.min()), float(ratings.max())


def _ratings(interactions: Interactions, positions: np.ndarray, device: torch.device) -> Ratings:
    return Ratings(
        torch.from_numpy(interactions.user_index[positions].astype(np.int64)).to(device),
        torch.from_numpy(interactions.item_index[positions].astype(np.int64)).to(device),
        torch.from_numpy(interactions.ratings[positions].astype(np.float32)).to(device),
    )


def _touched(index: Tensor, n_rows: int) -> Tensor:
    """Which rows the index names: int64 [n] -> bool [1 + n_rows]."""
    touched = torch.zeros(1 + n_rows, dtype=torch.bool, device=index.device)
    touched[index] = True
    return touched


def check_steps(n_ratings: int, training: TrainingConfig, config: Config, team: Team) -> None:
    """Refuse steps that leave a rank with too few ratings: batch norm needs two, to have a spread.

    Raises:
        ConfigError: they do.
    """
    smallest = n_ratings // n_batches(n_ratings, training.batch_size)
    if team.size > 1 and smallest < 2 * team.size:
        raise ConfigError(
            f"a step of {smallest} ratings is too small for {team.size} processes, each of which needs 2: "
            f"raise the batch size (now {training.batch_size}), or start fewer."
        )
    if smallest < 2 and isinstance(config, MlpConfig) and config.batch_norm and config.hidden_layers:
        raise ConfigError(
            f"{n_ratings:,} training ratings in steps of at most {training.batch_size} make a step of one, "
            f"and batch norm needs two: {'raise the batch size, or ' if n_ratings > 1 else ''}leave out "
            f"--batch-norm."
        )


def _check_finite(train_loss: float, model: nn.Module, number: int, info: RunInfo) -> None:
    # The last step can ruin the weights after the last loss was taken.
    if not math.isfinite(train_loss) or not all(p.isfinite().all() for p in model.parameters()):
        kept = f"epoch {info.epochs_done} is kept" if info.epochs_done else "nothing was written"
        raise TrainingError(
            f"training diverged in epoch {number}, with a loss of {train_loss}; {kept}. "
            f"Lower the learning rate ({info.training.learning_rate:g}), or give the model a --y-range."
        )
