"""Training by sparse updates as a whole: the same results, resumed and ranking ones too."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import cast

import pytest
import torch
from torch import Tensor, nn

from recsys.data.interactions import Interactions
from recsys.models import KINDS, DotBiasConfig, build
from recsys.models.modules import DotProduct
from recsys.models.y_range import YRange
from recsys.training.checkpoint import Run, load_run
from recsys.training.device import Compilation, CompileMode, compilation
from recsys.training.distributed import Team
from recsys.training.learner import (
    ROWS_PER_RATING,
    DenseLearner,
    Learner,
    Setting,
    is_sparse,
    make_learner,
)
from recsys.training.product_learner import ProductLearner
from recsys.training.run_info import Iteration, PartInfo, SparseUpdates, TrainingConfig
from recsys.training.session import Machine, Reporter
from recsys.training.settings import new_settings
from recsys.training.train import resume, train

Train = Callable[..., Run]


@pytest.fixture(params=sorted(kind.name for kind in KINDS.values() if not kind.fit))
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.mark.parametrize("objective", ["ratings", "ranking"])
def test_they_train_as_dense_ones_do(quick: Train, kind: str, objective: str, tmp_path: Path) -> None:
    one, other = (
        load_run(quick(kind, tmp_path / updates, objective=objective, sparse_updates=updates).path)
        for updates in ("off", "on")
    )
    loss = "train_loss" if objective == "ratings" else "train_softmax_loss"
    for dense, sparse in zip(one.info.part.history, other.info.part.history, strict=True):
        assert sparse.metrics[loss] == pytest.approx(dense.metrics[loss], rel=2e-3)
    if kind == "mlp":
        return  # its first weights decide where it ends: 1e-6 on them does more than sparse updates
    for (name, table), rows in zip(one.model().named_parameters(), other.model().parameters(), strict=True):
        # A row's moves over missed steps are interpolated, and other rows' gradients follow from them.
        assert (rows - table).norm() < 0.02 * table.norm(), name


def test_a_resumed_run_ends_as_an_unbroken_one(quick: Train, kind: str, tmp_path: Path) -> None:
    unbroken = quick(kind, tmp_path / "unbroken", sparse_updates="on")

    def stop(epoch: Iteration) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        quick(kind, tmp_path / "broken", sparse_updates="on", reporter=Reporter(on_iteration=stop))
    assert resume(tmp_path / "broken", machine=Machine("cpu", "off")).info.files == unbroken.info.files


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch's own compiler
@pytest.mark.parametrize("objective", ["ratings", "ranking"])
def test_they_can_be_compiled(checkerboard: Interactions, objective: str, tmp_path: Path) -> None:
    asked = {"epochs": 2, "factors": 8, "objective": objective, "sparse_updates": "on"}
    one, other = (
        train(checkerboard, new_settings("dot-bias", asked), tmp_path / mode, machine=Machine("cpu", mode))
        for mode in ("off", "on")
    )
    for (name, plain), compiled in zip(
        load_run(one.path).model().named_parameters(), load_run(other.path).model().parameters(), strict=True
    ):
        torch.testing.assert_close(compiled, plain, rtol=1e-3, atol=1e-4, msg=name)


def trained(device: torch.device, compilation: Compilation, objective: str, n_steps: int = 6) -> nn.Module:
    """A model after steps of two sizes in turn."""
    torch.manual_seed(1)
    model = build("dot-bias", DotBiasConfig(8, (0.5, 5.5)), 20, 30).to(device)
    ranks = objective == "ranking"
    setting = Setting(TrainingConfig(weight_decay=0.1), n_steps, Team(device=device), ranks, compilation)
    learner = make_learner(model, setting, None, sparse=False)
    data = torch.Generator().manual_seed(2)
    for step in range(n_steps):
        size = 16 - step % 2
        users, items = (torch.randint(1, n, (size,), generator=data).to(device) for n in (21, 31))
        scores = learner.forward(*learner.begin(step, users, items))
        right = torch.eye(size, device=device) if ranks else torch.ones(size, device=device)
        learner.finish((scores - right) * (2 / right.numel()))  # of the mean squared error
    learner.end_epoch()
    return model


def check_same(one: nn.Module, other: nn.Module) -> None:
    for (name, plain), compiled in zip(one.named_parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(compiled.cpu(), plain.cpu(), rtol=1e-3, atol=1e-4, msg=name)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch's own compiler
@pytest.mark.parametrize("objective", ["ratings", "ranking"])
@pytest.mark.parametrize("compilation", ["plain", "captured"])
def test_dense_steps_can_be_compiled(compilation: Compilation, objective: str) -> None:
    """What is captured on a GPU is compiled here likewise, and runs without CUDA graphs."""
    cpu = torch.device("cpu")
    check_same(trained(cpu, "none", objective), trained(cpu, compilation, objective))


def copies(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.clone(memory_format=torch.contiguous_format) for name, tensor in tensors.items()}


@pytest.mark.parametrize("kind", ["dot", "dot-bias"])
@pytest.mark.parametrize("y_range", [None, (0.5, 5.5)])
def test_products_in_closed_form_learn_as_by_autograd_and_torch_optim(kind: str, y_range: YRange) -> None:
    """Also after a state is restored, which the one takes from the other."""
    config = TrainingConfig(weight_decay=0.1)
    setting = Setting(config, 60, Team(), ranks=False, compilation="none")
    torch.manual_seed(1)
    models = [build(kind, KINDS[kind].config(8, y_range), 20, 30) for _ in range(2)]
    models[1].load_state_dict(models[0].state_dict())
    learners: list[Learner] = [DenseLearner(models[0], setting, None)]
    learners.append(make_learner(models[1], setting, None, sparse=False))
    assert isinstance(learners[1], ProductLearner)
    data = torch.Generator().manual_seed(2)
    for step in range(60):
        users, items = (torch.randint(1, n, (50,), generator=data) for n in (21, 31))
        ratings = 5 * torch.rand(50, generator=data)
        if step == 30:
            states = [copies(learner.state()) for learner in learners]
            learners = [
                DenseLearner(models[0], setting, states[1]),
                ProductLearner(cast(DotProduct, models[1]), setting, states[0]),
            ]
        for learner in learners:
            errors = learner.forward(*learner.begin(step, users, items)) - ratings
            learner.finish(errors * (2 / 50))
            learner.end_epoch()
    for (name, expected), found in zip(models[0].named_parameters(), models[1].parameters(), strict=True):
        # The order of sums differs.
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6, msg=name)
    states = [learner.state() for learner in learners]
    assert states[0].keys() == states[1].keys()
    for name, expected in states[0].items():
        torch.testing.assert_close(states[1][name], expected, rtol=1e-4, atol=1e-7, msg=name)


def test_one_gpu_captures_and_several_only_compile() -> None:
    cpu, cuda = torch.device("cpu"), torch.device("cuda")
    asked: list[tuple[CompileMode, torch.device, int]] = [
        *(("auto", cpu, 1), ("on", cpu, 1), ("auto", cuda, 1), ("on", cuda, 2), ("off", cuda, 1)),
    ]
    found = [compilation(*one) for one in asked]
    assert found == ["none", "plain", "captured", "plain", "none"]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU that torch can use")
@pytest.mark.parametrize("objective", ["ratings", "ranking"])
def test_a_gpu_replays_both_passes(objective: str) -> None:
    device = torch.device("cuda")
    with torch.profiler.profile() as profile:
        replayed = trained(device, "captured", objective, n_steps=12)
    launches = [event.count for event in profile.key_averages() if event.key == "cudaGraphLaunch"]
    assert sum(launches) >= 12  # each size runs twice before it is replayed, by two graphs
    check_same(trained(device, "none", objective, n_steps=12), replayed)


def test_automatic_where_tables_are_large_beside_a_step() -> None:
    def part(kind: str = "dot", updates: SparseUpdates = "auto") -> PartInfo:
        config = TrainingConfig(weight_decay=0.0, batch_size=100, sparse_updates=updates)
        return PartInfo(kind=kind, config={}, objective="ratings", weight=1.0, training=config)

    rows = 100 * ROWS_PER_RATING
    assert not is_sparse(part(), rows - 2, 1)
    assert is_sparse(part(), rows - 1, 1)
    assert not is_sparse(part("mlp"), rows, rows)
    assert is_sparse(part("mlp", "on"), 1, 1)
    assert not is_sparse(part(updates="off"), rows, rows)
