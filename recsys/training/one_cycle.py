"""The one-cycle schedule: learning rate up, then far down, and momentum the other way round.

Leslie Smith, "Super-convergence" (arXiv 1708.07120), in the shape that fastai's `fit_one_cycle` gives it.
"""

from __future__ import annotations

import math

RISE = 0.25
"""Share of the steps over which the learning rate rises."""
START_DIVISOR = 25.0
FINAL_DIVISOR = 1e5
HIGH_MOMENTUM, LOW_MOMENTUM = 0.95, 0.85


def learning_rate_at(step: int, n_steps: int, highest: float) -> float:
    """Learning rate of a step, counted from 0: highest/25 -> highest -> highest/100,000, by cosines."""
    return _cycle(step / n_steps, highest / START_DIVISOR, highest, highest / FINAL_DIVISOR)


def momentum_at(step: int, n_steps: int) -> float:
    """Momentum (Adam's first beta) of a step, counted from 0: 0.95 -> 0.85 -> 0.95, by cosines."""
    return _cycle(step / n_steps, HIGH_MOMENTUM, LOW_MOMENTUM, HIGH_MOMENTUM)


def _cycle(position: float, start: float, middle: float, end: float) -> float:
    if position < RISE:
        return _cosine(start, middle, position / RISE)
    return _cosine(middle, end, (position - RISE) / (1 - RISE))


def _cosine(start: float, end: float, position: float) -> float:
    return start + (1 - math.cos(math.pi * position)) / 2 * (end - start)
