"""Sparse updates against torch's AdamW on the whole tables."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from recsys.training.optimizer import make_optimizer, one_cycle, schedule
from recsys.training.run_info import TrainingConfig
from recsys.training.sparse_adam import MissedSteps, SparseAdamW

N_STEPS, N_ROWS = 200, 100
CONFIG = TrainingConfig(weight_decay=0.1, learning_rate=0.02)
CPU = torch.device("cpu")


def both(rows_in_a_step: int, size: float) -> tuple[Tensor, Tensor, Tensor, dict[str, Tensor]]:
    """A table before; and after `N_STEPS` by AdamW, and by sparse updates with their state.

    The gradients of the squared distance to a target are multiplied by `size`.
    """
    generator = torch.Generator().manual_seed(3)
    before, target = (torch.randn(N_ROWS, 4, generator=generator) for _ in range(2))
    dense, sparse = nn.Parameter(before.clone()), nn.Parameter(before.clone())
    plain = make_optimizer({"table": dense}, CONFIG)
    rows_alone = SparseAdamW({"table": sparse}, CONFIG, MissedSteps(CONFIG, N_STEPS, CPU))
    for step in range(N_STEPS):
        rows = torch.randperm(N_ROWS, generator=generator)[:rows_in_a_step].sort().values
        schedule(plain, step, N_STEPS, CONFIG.learning_rate)
        plain.zero_grad()
        (size * (dense[rows] - target[rows]).square().sum()).backward()
        plain.step()
        taken = rows_alone.take(rows)["table"]
        (size * (taken - target[rows]).square().sum()).backward()
        rows_alone.step(*one_cycle(step, N_STEPS, CONFIG.learning_rate))
    rows_alone.catch_up()
    return before, dense.detach(), sparse.detach(), rows_alone.state()


def test_steps_of_all_rows_are_those_of_adamw() -> None:
    before, dense, sparse, _ = both(N_ROWS, 1e-3)
    # Only the order of float32 products differs.
    torch.testing.assert_close(sparse, dense, rtol=0, atol=1e-5)
    assert (dense - before).abs().max() > 0.5


@pytest.mark.parametrize("size", [1e-6, 1e-4, 1e-2, 1.0])  # around Adam's epsilon, and far above
def test_a_row_makes_up_for_the_steps_that_it_missed(size: float) -> None:
    before, dense, sparse, _ = both(N_ROWS // 50, size)
    # The divisor between the two limits is interpolated: a thousandth of the way.
    assert (sparse - dense).norm() < 2e-3 * (dense - before).norm()


def test_the_state_continues() -> None:
    _, _, table, state = both(4, 1.0)
    again = SparseAdamW({"table": nn.Parameter(table)}, CONFIG, MissedSteps(CONFIG, N_STEPS, CPU))
    again.restore(state)
    assert int(state["table.step"]) == N_STEPS
    assert state["table.exp_avg_sq"].max() > 0
    for name, value in again.state().items():
        assert torch.equal(value, state[name])


def test_a_learning_rate_that_is_far_too_large_ends_in_no_complex_numbers() -> None:
    """Such a training is reported as diverged."""
    config = TrainingConfig(weight_decay=0.1, learning_rate=1e30)
    table = nn.Parameter(torch.ones(3, 2))
    optimizer = SparseAdamW({"table": table}, config, MissedSteps(config, 4, CPU))
    optimizer.take(torch.tensor([1]))["table"].sum().backward()
    optimizer.step(*one_cycle(0, 4, 1e30))
    optimizer.catch_up()
    assert table[1].abs().max() > 1e20
