from __future__ import annotations

import numpy as np
import pytest
import torch

from recsys.training.batches import RatingTensors, epoch_seed, n_batches, shuffled_batches
from recsys.training.optimizer import one_cycle


def numbered(n: int) -> RatingTensors:
    return RatingTensors(torch.arange(n), torch.arange(n) + 1000, torch.arange(n).float())


@pytest.mark.parametrize(("n", "batch_size"), [(1, 64), (64, 64), (65, 64), (1000, 64), (7, 1)])
def test_every_rating_comes_once_in_steps_of_even_size(n: int, batch_size: int) -> None:
    batches = list(shuffled_batches(numbered(n), n_batches(n, batch_size), seed=5))
    sizes = [len(batch.ratings) for batch in batches]
    assert len(batches) == n_batches(n, batch_size)
    assert max(sizes) <= min(batch_size, min(sizes) + 1)
    assert sorted(torch.cat([batch.user_index for batch in batches]).tolist()) == list(range(n))
    for batch in batches:  # rows stay together
        assert torch.equal(batch.user_index + 1000, batch.item_index)
        assert torch.equal(batch.user_index.float(), batch.ratings)


def test_the_order_follows_from_seed_and_epoch() -> None:
    def order(seed: int, epoch: int) -> list[int]:
        (batch,) = shuffled_batches(numbered(100), 1, epoch_seed(seed, epoch))
        return batch.user_index.tolist()

    assert order(1, 1) == order(1, 1)
    assert order(1, 1) != order(1, 2)
    assert order(1, 2) != order(2, 1)


def test_the_learning_rate_rises_for_a_quarter_and_then_falls_and_momentum_does_the_opposite() -> None:
    rates, momenta = np.array([one_cycle(step, 1000, 1.0) for step in range(1001)]).T
    # Halfway up and halfway down, a cosine is in the middle.
    middles = [1 / 25, (1 / 25 + 1) / 2, 1, (1 + 1e-5) / 2, 1e-5]
    np.testing.assert_allclose(rates[[0, 125, 250, 625, 1000]], middles)
    np.testing.assert_allclose(momenta[[0, 125, 250, 625, 1000]], [0.95, 0.9, 0.85, 0.9, 0.95])
    assert (np.diff(rates) > 0).tolist() == [True] * 250 + [False] * 750
