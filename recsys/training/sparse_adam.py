"""AdamW on large tables: a step reads and writes only the rows that its ratings use.

Plain AdamW changes every row in every step: weight decay shrinks it, its momentum moves it on and fades. Here
a row gets all of that at once when it is next used, in closed form for the steps that it missed, and every
row gets it at the end of an epoch. One approximation remains: over the missed steps, the divisor of Adam is
interpolated between its two limits, a gradient far above epsilon and one far below.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.adamw import adamw

from recsys.training.optimizer import ADAM_BETA2, ADAM_EPS, one_cycle
from recsys.training.run_info import TrainingConfig

ROWS_AT_ONCE = 1 << 15
"""Rows that the end of an epoch brings up to date at once: bounds its memory."""
NEVER = 1e-30
"""Stands for a movement of 0, which is divided by."""


class TableRows(NamedTuple):
    """Rows of one table, copied out of it, with their moments."""

    weights: Tensor
    """float32 [R, F], a leaf that collects gradients."""
    exp_avg: Tensor
    exp_avg_sq: Tensor


class MissedSteps:
    """What a row misses between two steps of a schedule, counted from 1; 0 is before the first.

    With learning rate l, momentum b and decay w, step s does m = b m and x = (1 - l w) x - a m / d, where
    a = l / (1 - b^s) and d is Adam's divisor. Sums over the steps from any one to the end, and products from
    the start, give those between any two. All are float64 [1 + n_steps].
    """

    def __init__(self, config: TrainingConfig, n_steps: int, device: torch.device) -> None:
        pairs = [one_cycle(step, n_steps, config.learning_rate) for step in range(n_steps)]
        rates, momenta = np.array(pairs).reshape(n_steps, 2).T
        steps = np.arange(1, 1 + n_steps)
        # A learning rate that is far too large would turn the weights' sign.
        kept = np.maximum(1 - rates * config.weight_decay, NEVER)
        sizes = rates / (1 - momenta**steps)
        correction = 1 - ADAM_BETA2**steps
        # By how much the root of the corrected second moment shrinks in a step without a gradient.
        shrinks = np.ones(n_steps)
        shrinks[1:] = np.sqrt(ADAM_BETA2 * correction[:-1] / correction[1:])

        def on_device(values: np.ndarray, first: float) -> Tensor:
            return torch.from_numpy(np.concatenate([[first], values])).to(device)

        def products(factors: np.ndarray) -> Tensor:
            return on_device(np.log(factors).cumsum(), 0)

        def rest(factors: np.ndarray) -> Tensor:
            """Movement from each step to the end, per unit of momentum and divisor at that step."""
            total, sums = 0.0, np.zeros(n_steps)
            for step in range(n_steps - 1, -1, -1):
                sums[step] = total = factors[step] * (sizes[step] + total)
            return torch.from_numpy(np.append(sums, 0.0)).to(device)

        self._kept, self._momentum = products(kept), products(momenta)
        fading = momenta / kept
        self._by_gradient = products(fading / shrinks), rest(fading / shrinks)
        self._by_epsilon = products(fading), rest(fading)
        self._correction = on_device(correction, 1.0)

    def apply(self, weights: Tensor, exp_avg: Tensor, exp_avg_sq: Tensor, last: Tensor, now: int) -> None:
        """Bring rows float32 [R, F] from the steps that used them last, int64 [R], to `now`, in place."""
        by_gradient, by_epsilon = (
            (rest[last] - (products[now] - products[last]).exp() * rest[now]).clamp_(min=NEVER)
            for products, rest in (self._by_gradient, self._by_epsilon)
        )
        root = _column(1 / (self._correction[last].sqrt() * by_gradient))
        divisor = exp_avg_sq.sqrt().mul_(root).add_(_column(ADAM_EPS / by_epsilon))
        weights.addcdiv_(exp_avg, divisor, value=-1).mul_(_column((self._kept[now] - self._kept[last]).exp()))
        exp_avg.mul_(_column((self._momentum[now] - self._momentum[last]).exp()))
        exp_avg_sq.mul_(_column(ADAM_BETA2 ** (now - last).double()))


def _write(whole: Tensor, index: Tensor, rows: Tensor) -> None:
    """Overwrite rows, int64 [R], in place."""
    if whole.device.type == "cpu":  # twice as fast as torch's index_copy_, which takes a third of a step
        whole.numpy()[index.numpy()] = rows.numpy()
    else:
        whole.index_copy_(0, index, rows)


def _column(values: Tensor) -> Tensor:
    return values.float().unsqueeze(1)


class SparseAdamW:
    """AdamW on tables of the same number of rows, by name; its state is that of torch's AdamW.

    Memory: twice the tables for the moments, 8 bytes a row, and copies of a step's rows.
    """

    def __init__(
        self, tables: Mapping[str, nn.Parameter], config: TrainingConfig, missed: MissedSteps
    ) -> None:
        self.tables = {name: table.detach() for name, table in tables.items()}
        self._moments = {name: (torch.zeros_like(t), torch.zeros_like(t)) for name, t in self.tables.items()}
        self._weight_decay, self._missed = config.weight_decay, missed
        first = next(iter(self.tables.values()))
        self._last = torch.zeros(len(first), dtype=torch.int64, device=first.device)
        self._step = 0
        self._index = self._last[:0]
        self._rows: dict[str, TableRows] = {}

    def take(self, index: Tensor) -> dict[str, Tensor]:
        """Copy the rows of the next step out of each table: int64 [R], ascending -> float32 [R, F] by name.

        The copies collect the gradients of the step.
        """
        self._index, last = index, self._last[index]
        self._rows = {}
        for name, table in self.tables.items():
            # Several times as fast as indexing with brackets on a CPU.
            rows = TableRows(*(whole.index_select(0, index) for whole in (table, *self._moments[name])))
            self._missed.apply(*rows, last, self._step)
            rows.weights.requires_grad_()
            self._rows[name] = rows
        return {name: rows.weights for name, rows in self._rows.items()}

    @torch.no_grad()
    def step(self, learning_rate: float, momentum: float) -> None:
        """Do the step of the rows that were taken, and write them back."""
        rows = self._rows.values()
        adamw(
            [one.weights for one in rows],
            [one.weights.grad for one in rows],  # type: ignore[misc]
            [one.exp_avg for one in rows],
            [one.exp_avg_sq for one in rows],
            [],
            [torch.tensor(float(self._step), device=self._last.device) for _ in rows],
            fused=True,
            amsgrad=False,
            beta1=momentum,
            beta2=ADAM_BETA2,
            lr=learning_rate,
            weight_decay=self._weight_decay,
            eps=ADAM_EPS,
            maximize=False,
        )
        self._step += 1
        self._last[self._index] = self._step
        for name, one in self._rows.items():
            for whole, part in zip((self.tables[name], *self._moments[name]), one, strict=True):
                _write(whole, self._index, part.detach())
        self._rows = {}

    def catch_up(self) -> None:
        """Bring every row to the last step."""
        for start in range(0, len(self._last), ROWS_AT_ONCE):
            rows = slice(start, start + ROWS_AT_ONCE)
            for name, table in self.tables.items():
                exp_avg, exp_avg_sq = self._moments[name]
                self._missed.apply(table[rows], exp_avg[rows], exp_avg_sq[rows], self._last[rows], self._step)
        self._last.fill_(self._step)

    def state(self) -> dict[str, Tensor]:
        """The state after `catch_up`, named `TABLE.STATE`."""
        state = {}
        for name, (exp_avg, exp_avg_sq) in self._moments.items():
            state[f"{name}.step"] = torch.tensor(float(self._step))
            state[f"{name}.exp_avg"], state[f"{name}.exp_avg_sq"] = exp_avg, exp_avg_sq
        return state

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Take over what `state` returned."""
        for name, moments in self._moments.items():
            for key, moment in zip(("exp_avg", "exp_avg_sq"), moments, strict=True):
                moment.copy_(state[f"{name}.{key}"])
            self._step = int(state[f"{name}.step"])
        self._last.fill_(self._step)
