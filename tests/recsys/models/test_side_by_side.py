"""A weighted sum of products is one product."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from recsys.errors import ConfigError
from recsys.models import MlpConfig, build
from recsys.models.modules import DotProduct
from recsys.models.side_by_side import score_spread, side_by_side

N_USERS, N_ITEMS = 7, 11
EVERY_PAIR = (
    torch.arange(1, 1 + N_USERS).repeat_interleave(N_ITEMS),
    torch.arange(1, 1 + N_ITEMS).repeat(N_USERS),
)


def product(seed: int, n_factors: int, biases: str) -> DotProduct:
    torch.manual_seed(seed)
    model = DotProduct(N_USERS, N_ITEMS, n_factors, biases=biases)
    for table in model.parameters():
        torch.nn.init.normal_(table, mean=0.3)
    return model


def scores(model: torch.nn.Module) -> np.ndarray:
    with torch.no_grad():
        return model(*EVERY_PAIR).reshape(N_USERS, N_ITEMS).double().numpy()


@pytest.mark.parametrize("biases", ["none", "items", "both"])
def test_the_spread_is_that_of_the_scores(biases: str) -> None:
    model = product(0, 3, biases)
    assert score_spread(model) == pytest.approx(np.sqrt(scores(model).var(axis=1).mean()), rel=1e-6)


def test_equal_scores_have_the_spread_1() -> None:
    model = product(0, 3, "none")
    torch.nn.init.zeros_(model.item_factors)
    assert score_spread(model) == 1.0


def test_scores_are_the_weighted_sum_in_units_of_the_spread() -> None:
    models = [product(1, 3, "none"), product(2, 5, "items"), product(3, 2, "both")]
    weights = [1.0, 0.5, 2.0]
    expected = sum(w / score_spread(m) * scores(m) for m, w in zip(models, weights, strict=True))
    found = scores(side_by_side(models, weights))
    # Users' biases do not order a list, and are left out.
    np.testing.assert_allclose(
        found - found.mean(axis=1, keepdims=True), expected - expected.mean(axis=1, keepdims=True), atol=1e-5
    )


def test_one_part_is_itself() -> None:
    model = product(1, 3, "items")
    assert side_by_side([model], [0.5]) is model


def test_a_network_stands_alone() -> None:
    network = build("mlp", MlpConfig(y_range=None), N_USERS, N_ITEMS)
    assert side_by_side([network], [1.0]) is network
    with pytest.raises(ConfigError, match="can't rank beside other parts"):
        side_by_side([product(1, 3, "none"), network], [1.0, 1.0])
