"""Training by sparse updates as a whole: the same results, resumed and ranking ones too."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from recsys.data.interactions import Interactions
from recsys.models import KINDS
from recsys.training.checkpoint import Run, load_run
from recsys.training.learner import ROWS_PER_RATING, is_sparse
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
