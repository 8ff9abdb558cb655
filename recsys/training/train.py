"""A whole training run, from ratings to a run folder, new or resumed. Parts are trained one after another."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np

from recsys.data.interactions import Interactions
from recsys.data.oddities import oddities
from recsys.data.splits import Split, split
from recsys.data.valid_data import with_valid_data
from recsys.errors import ConfigError
from recsys.memory import forecast
from recsys.models import config_from_dict
from recsys.models.rating_unit import rating_unit
from recsys.models.y_range import resolve
from recsys.training.checkpoint import Run, load_run
from recsys.training.distributed import Team, join_team
from recsys.training.fitted_part import fit_part
from recsys.training.gradient_part import check_steps, train_part
from recsys.training.needed_memory import needed_bytes
from recsys.training.pretrained import WarmStart
from recsys.training.rating_share import read_share
from recsys.training.run_folder import RunFolder, current_versions, staging_of
from recsys.training.run_info import FORMAT_VERSION, DataInfo, PartInfo, RunInfo
from recsys.training.session import AUTO, SILENT, Machine, Reporter, Session
from recsys.training.settings import RunSettings
from recsys.training.sharded_tables import check_shardable

__all__ = ["Machine", "Reporter", "resume", "train"]

log = logging.getLogger(__name__)


def train(
    interactions: Interactions | Callable[[], Interactions],
    settings: RunSettings,
    output: Path,
    *,
    valid: Interactions | None = None,
    start: WarmStart | None = None,
    overwrite: bool = False,
    machine: Machine = AUTO,
    reporter: Reporter = SILENT,
) -> Run:
    """Train new models and write a run folder.

    Args:
        interactions: the ratings, or what reads them: with sharded tables only the first process calls it,
            and keeps none but its share.
        settings: of the new run.
        output: the run folder.
        valid: held-out ratings of their own, for the split "valid-data", which names their SHA-256.
        start: a pretrained model that the only part starts from.
        overwrite: whether to replace a run.
        machine: where to train.
        reporter: is told of the progress.

    Ratings that are all equal are treated as none: there is nothing to predict.

    Raises:
        ConfigError, OutputError: `output` is taken, another training writes there, the device is not
            available, several processes were started for a part that is fitted, tables can't be sharded, or a
            part that predicts ratings was asked for where there are none.
        DataError: the data can't be split by this recipe.
        MemoryShortageError: a part needs more memory than is free.
        TrainingError: the loss is no longer finite; epochs that are on disk stay.
        OSError: the folder can't be written.
    """
    if machine.shard_tables:
        check_shardable(settings.parts, warm=start is not None)
    with join_team(machine.device) as team, ExitStack() as stack:
        begin = partial(_begin, settings, output, valid, start, overwrite, team, stack)
        if machine.shard_tables:
            begun = begin(interactions, sharded=True) if team.leads else None
            info, folder = (begun.info, begun.folder) if begun else (None, None)
            del begun, interactions  # each rank reads its share, the first one too
            info = msgspec.json.decode(team.tell(msgspec.json.encode(info)), type=RunInfo)
            data, sides = read_share(staging_of(output), info.data, team)
        else:
            info, folder, data, sides = begin(interactions)
        session = Session(data, sides, machine, reporter if team.leads else SILENT, team, folder)
        return _train_parts(session, Run(output.absolute(), info), start)


class _Begun(NamedTuple):
    info: RunInfo
    folder: RunFolder | None
    interactions: Interactions
    sides: Split


def _begin(
    settings: RunSettings,
    output: Path,
    valid: Interactions | None,
    start: WarmStart | None,
    overwrite: bool,
    team: Team,
    stack: ExitStack,
    interactions: Interactions | Callable[[], Interactions],
    *,
    sharded: bool = False,
) -> _Begun:
    """Read and split the ratings, and begin the run's folder, which `stack` closes."""
    if not isinstance(interactions, Interactions):
        interactions = interactions()
    settings, implicit = _for_data(settings, interactions)
    if not implicit:
        for oddity in oddities(interactions):
            log.warning(oddity)
    if valid is None:
        sides = split(interactions, settings.split)
    else:
        assert settings.split.valid_data == valid.sha256
        interactions, sides = with_valid_data(interactions, valid)
    held_out = np.zeros(len(interactions), dtype=bool)
    held_out[sides.valid] = True
    parts = []
    for part in settings.parts:
        config = config_from_dict(part.kind, part.config)
        config = resolve(config, _range(interactions.ratings[sides.train]))
        if part.training:
            check_steps(len(sides.train), part.training, part.kind, config, team)
        elif team.size > 1:
            raise ConfigError(f"{part.kind} is fitted by one process: start it without torchrun")
        predicts = part.training and part.objective == "ratings"
        unit = rating_unit(interactions.ratings[sides.train]) if predicts else 1.0
        parts.append(msgspec.structs.replace(part, config=asdict(config), rating_unit=unit))
    if team.device.type == "cpu":
        _check_memory(parts, interactions, len(sides.train), team.size if sharded else 1)
    folder = None
    if team.leads:
        folder = stack.enter_context(RunFolder.create(output, overwrite=overwrite))
    info = RunInfo(
        format_version=FORMAT_VERSION,
        data=DataInfo.of(interactions, len(sides.valid), _range(interactions.ratings), implicit=implicit),
        split=settings.split,
        seed=settings.split.seed,
        device=str(team.device),
        parts=parts,
        files=folder.write_data(interactions, held_out) if folder else {},
        versions=current_versions(),
        started_from=start.summary if start else None,
        rating_weight=settings.rating_weight,
    )
    return _Begun(info, folder, interactions, sides)


def resume(
    output: Path,
    *,
    machine: Machine = AUTO,
    reporter: Reporter = SILENT,
) -> Run:
    """Continue a run after its last whole epoch; a finished run is returned unchanged.

    On the CPU of one machine it ends with the weights of an uninterrupted run, bit for bit. A fitted part
    that was interrupted is fitted from the start.

    Raises:
        CheckpointError: the run can't be read.
        ConfigError, MemoryShortageError, TrainingError, OSError: as `train` does.
    """
    run = load_run(output)
    if machine.shard_tables:
        check_shardable(run.info.parts, warm=run.info.started_from is not None)
    with join_team(machine.device) as team, ExitStack() as stack:
        folder = stack.enter_context(RunFolder(output)) if team.leads else None
        reporter = reporter if team.leads else SILENT
        if machine.shard_tables:
            data, sides = read_share(output, run.info.data, team)
        else:
            data, sides = run.interactions(), run.split()
        session = Session(data, sides, machine, reporter, team, folder)
        info = msgspec.structs.replace(run.info, device=str(team.device), versions=current_versions())
        if team.device.type == "cpu":
            unfinished = [part for part in info.parts if part.training or not part.history]
            n_train = run.info.data.n_ratings - run.info.data.n_held_out
            _check_memory(unfinished, data, n_train, team.size if machine.shard_tables else 1)
        return _train_parts(session, replace(run, info=info), None)


def _train_parts(session: Session, run: Run, start: WarmStart | None) -> Run:
    """Train or fit the parts that are not finished."""
    for number, part in enumerate(run.info.parts):
        session.reporter.on_part(run.info, part, run.info.data.n_ratings - run.info.data.n_held_out)
        if part.training:
            run = train_part(session, run, number, start)
        elif not part.history:
            run = fit_part(session, run, number)
    session.team.wait()  # until rank 0 has written the last epoch
    return run


def _check_memory(parts: list[PartInfo], interactions: Interactions, n_train: int, ranks: int) -> None:
    """Log what the largest part needs in one of the ranks that share tables and ratings.

    Raises MemoryShortageError: more than there is.
    """
    of_parts = {part.kind: needed_bytes(part, interactions, n_train, ranks) for part in parts}
    if of_parts:
        kind = max(of_parts, key=of_parts.__getitem__)
        forecast(f"training {kind}", of_parts[kind], "Take fewer --factors, or a machine with more memory.")


def _for_data(settings: RunSettings, interactions: Interactions) -> tuple[RunSettings, bool]:
    """The settings that fit the data, and whether it has no ratings to predict; a line is logged if so."""
    low, high = _range(interactions.ratings)
    if not interactions.implicit and low < high:
        return settings, False
    fitting = settings.without_ratings(interactions.name)
    why = "has no ratings" if interactions.implicit else f"has no rating but {low:g}"
    left_out = [part.kind for part in settings.parts if part not in fitting.parts]
    what = f"; {', '.join(left_out)}, which predicts ratings, is left out" if left_out else ""
    log.warning(f"{interactions.name} {why}: items are ranked, and no rating is predicted{what}")
    return fitting, True


def _range(ratings: np.ndarray) -> tuple[float, float]:
    return float(ratings.min()), float(ratings.max())
