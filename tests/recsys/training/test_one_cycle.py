from __future__ import annotations

import numpy as np
import pytest

from recsys.training.one_cycle import learning_rate_at, momentum_at

N = 1000


def test_the_learning_rate_rises_for_a_quarter_and_then_falls() -> None:
    rates = np.array([learning_rate_at(step, N, 0.005) for step in range(N)])
    assert rates[0] == pytest.approx(0.005 / 25)
    assert rates.argmax() == N // 4
    assert rates.max() == pytest.approx(0.005)
    assert (np.diff(rates[: N // 4 + 1]) > 0).all()
    assert (np.diff(rates[N // 4 :]) < 0).all()
    assert learning_rate_at(N, N, 0.005) == pytest.approx(0.005 / 1e5)
    # Halfway up and halfway down, a cosine is in the middle.
    assert learning_rate_at(125, N, 1.0) == pytest.approx((1 / 25 + 1) / 2)
    assert learning_rate_at(625, N, 1.0) == pytest.approx((1 + 1e-5) / 2)


def test_momentum_goes_the_other_way() -> None:
    values = np.array([momentum_at(step, N) for step in range(N)])
    assert values[0] == pytest.approx(0.95)
    assert values.argmin() == N // 4
    assert values.min() == pytest.approx(0.85)
    assert momentum_at(N, N) == pytest.approx(0.95)
    assert momentum_at(125, N) == pytest.approx(0.9)
    assert momentum_at(625, N) == pytest.approx(0.9)
