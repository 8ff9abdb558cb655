"""One part of a run that is trained by gradient; each epoch is committed."""

from __future__ import annotations

import math
import time
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from itertools import pairwise
from typing import Any

import torch
from torch import nn

from recsys.errors import ConfigError, TrainingError
from recsys.models import build
from recsys.models.rating_unit import in_ratings, in_unit
from recsys.models.tables import average_untrained_rows
from recsys.training.batches import epoch_seed, n_batches, shuffled_batches, step_size
from recsys.training.checkpoint import Part, Run
from recsys.training.device import compilation, fitting_threads, tf32_products
from recsys.training.distributed import Team
from recsys.training.learner import Learner, Setting, is_sparse, make_learner
from recsys.training.pretrained import KeptRows, WarmStart, take_over
from recsys.training.run_info import Iteration, PartInfo, TrainingConfig
from recsys.training.sampled_softmax import Candidates, sampled_softmax
from recsys.training.session import Session
from recsys.training.sharded_tables import ShardedLearner, ShardedProduct, new_sharded, read_sharded

REPORT_EVERY = 32
"""Steps between two reports of progress."""


def train_part(session: Session, run: Run, number: int, start: WarmStart | None) -> Run:
    """Train the remaining epochs of part `number`.

    Raises:
        CheckpointError: the part's files are damaged.
        TrainingError: the loss is no longer finite.
        OSError: the folder can't be written.
    """
    part, team, info = run.parts[number], session.team, run.info
    config, history = part.info.training, [*part.info.history]
    assert config is not None
    if len(history) >= config.epochs:
        return run
    model, learner = _state(session, part, config, info.seed, start)
    averaged_items = session.trained_items
    if info.started_from:
        kept = KeptRows(model, session.trained_items)
        averaged_items = averaged_items | kept.items
    ranks = part.info.objective == "ranking"
    loss_name = "train_softmax_loss" if ranks else "train_loss"
    for epoch in range(len(history) + 1, config.epochs + 1):
        started = time.perf_counter()
        # All of an epoch: whatever is done with a small model waits for a second thread.
        with fitting_threads(learner.touched, team.device):
            with tf32_products(config.precision == "tf32"):
                train_loss = _train_epoch(session, model, learner, part.info, info.seed, epoch)
            team.align(model)  # before measuring, because rank 0's buffers are written
            if info.started_from:
                kept.restore(model)
            if isinstance(model, ShardedProduct):
                model.average_untrained_rows(session.trained_users, averaged_items)
            else:
                average_untrained_rows(model, session.trained_users, averaged_items)
            if ranks:
                measured = session.ranking_sample.measure(model)
            else:
                measured = session.measure(_in_ratings(model, part))
            metrics = {loss_name: train_loss, **measured}
            _check_finite(train_loss, model, epoch, config, team, ranks=ranks)
            history.append(Iteration(number=epoch, metrics=metrics, seconds=time.perf_counter() - started))
            info = session.commit(info, number, history, model, learner.state())
        session.reporter.on_iteration(history[-1])
    return replace(run, info=info)


def _state(
    session: Session, part: Part, config: TrainingConfig, seed: int, start: WarmStart | None
) -> tuple[nn.Module, Learner]:
    """The model and its learner after the last whole epoch, or new ones."""
    device, sharded = session.team.device, session.machine.shard_tables
    state = None
    if not part.info.history:
        torch.manual_seed(epoch_seed(seed, 0))
        model = new_sharded(part, session.team) if sharded else _new_model(part, start)
    elif sharded:
        model, state = read_sharded(part, session.team)
    else:
        model = part.trained_model()
        state = part.optimizer_state(model)
    model = model.to(device)
    setting = Setting(
        config,
        config.epochs * n_batches(session.total(len(session.train.ratings)), config.batch_size),
        session.team,
        ranks=part.info.objective == "ranking",
        compilation=compilation(session.machine.compile, device, session.team.size),
    )
    if isinstance(model, ShardedProduct):
        return model, ShardedLearner(model, setting, state)
    sparse = is_sparse(part.info, part.data.n_users, part.data.n_items)
    learner = make_learner(model, setting, state, sparse=sparse)
    return model, learner


def _new_model(part: Part, start: WarmStart | None) -> nn.Module:
    # Made on the CPU and then moved, so that a seed gives the same initial weights on every device.
    unit = part.info.rating_unit
    new: Any = build(part.kind, in_unit(part.config, unit), part.data.n_users, part.data.n_items)
    if start:
        take_over(new, start)
        if unit != 1 and part.config.y_range is None:
            new.multiply(1 / unit)
    model: nn.Module = new
    return model


def _in_ratings(model: nn.Module, part: Part) -> nn.Module:
    scale = partial(in_ratings, config=part.config, unit=part.info.rating_unit)
    return model.with_shard(scale(model.shard)) if isinstance(model, ShardedProduct) else scale(model)


def _train_epoch(
    session: Session,
    model: nn.Module,
    learner: Learner,
    part: PartInfo,
    seed: int,
    epoch: int,
) -> float:
    """Train the model in place for one epoch, counted from 1; returns the mean loss over it.

    The run's seed and the epoch's number determine the order of the ratings, the candidates and dropout.
    """
    data, team, device, config = session.train, session.team, session.team.device, part.training
    assert config is not None
    is_share, n_train = session.machine.shard_tables, session.total(len(data.ratings))
    seed = epoch_seed(seed, epoch)
    candidates = None
    if part.objective == "ranking":
        candidates = Candidates.of(data.item_index, session.interactions.n_items, epoch_seed(seed, 1))
    torch.manual_seed((seed + team.rank) % (1 << 63))  # of dropout, on a rank's own rows
    model.train()
    steps = n_batches(n_train, config.batch_size)
    total_loss = torch.zeros((), dtype=torch.float64, device=device)
    unreported = 0
    # Each rank has an order of its own ratings, or a share of one order.
    order_seed = epoch_seed(seed, team.rank) if is_share else seed
    batches = shuffled_batches(data, steps, order_seed)
    shares = [end - first for first, end in pairwise(team.bounds(n_train))] if is_share else [n_train]
    is_mixed = config.precision == "bf16"
    autocast = partial(torch.autocast, device.type, torch.bfloat16) if is_mixed else nullcontext
    for place, batch in enumerate(batches):
        n = sum(step_size(share, steps, place) for share in shares)  # of the whole step
        items = batch.item_index
        if candidates is not None:  # of the whole step, for every rank
            items, log_expected = candidates.draw(items)
        user_index, items = learner.begin((epoch - 1) * steps + place, batch.user_index, items)
        ratings = batch.ratings
        if not is_share:
            user_index, ratings = team.share((user_index, ratings))
            if candidates is None:
                (items,) = team.share((items,))
        if part.rating_unit != 1:
            ratings = ratings / part.rating_unit
        with autocast():
            scores = learner.forward(user_index, items)
        # The average over the ranks is the mean over the step, though the sizes of shares differ.
        scale = team.size / n
        if candidates is None:
            errors = scores - ratings
            loss, gradient = errors.dot(errors), errors * (2 * scale)
        else:
            (places,) = team.share((torch.arange(n, device=device),))
            loss = sampled_softmax(scores.requires_grad_(), log_expected, places)
            gradient = torch.autograd.grad(loss * scale, scores)[0]
        learner.finish(gradient.to(scores.dtype))
        # Stays on the device: reading it would make a GPU wait in every step.
        total_loss += loss.detach()
        unreported += n
        if (place + 1) % REPORT_EVERY == 0:
            session.reporter.on_progress(unreported)
            unreported = 0
    learner.end_epoch()
    session.reporter.on_progress(unreported)
    team.sum(total_loss)
    return float(total_loss) / n_train * part.rating_unit**2


def check_steps(n_ratings: int, training: TrainingConfig, kind: str, config: Any, team: Team) -> None:
    """Check that every rank has enough ratings in every step.

    Raises:
        ConfigError: fewer than two ratings per rank in a step, with several ranks or with batch norm.
    """
    smallest = n_ratings // n_batches(n_ratings, training.batch_size)
    if team.size > 1 and smallest < 2 * team.size:
        raise ConfigError(
            f"a step of {smallest} ratings is too small for {team.size} processes, each of which needs 2: "
            f"raise the batch size (now {training.batch_size}), or start fewer."
        )
    with torch.device("meta"):  # without memory: only the types of the layers matter
        has_batch_norm = any(isinstance(m, nn.BatchNorm1d) for m in build(kind, config, 1, 1).modules())
    if smallest < 2 and has_batch_norm:
        raise ConfigError(
            f"{n_ratings:,} training ratings in steps of at most {training.batch_size} make a step of one, "
            f"and batch norm needs two: raise the batch size, or leave out --batch-norm."
        )


def _check_finite(
    train_loss: float, model: nn.Module, epoch: int, config: TrainingConfig, team: Team, *, ranks: bool
) -> None:
    # The last step can ruin the weights after the last loss was computed; those of another rank, too.
    infinite = torch.tensor(sum(not p.isfinite().all() for p in model.parameters()), device=team.device)
    team.sum(infinite)
    if not math.isfinite(train_loss) or infinite:
        kept = f"epoch {epoch - 1} is kept" if epoch > 1 else "nothing was written"
        remedy = "raise the weight decay" if ranks else "give the model a --y-range"
        raise TrainingError(
            f"training diverged in epoch {epoch}, with a loss of {train_loss}; {kept}. "
            f"Lower the learning rate ({config.learning_rate:g}), or {remedy}."
        )
