"""Several products as one: tables side by side, because a weighted sum of products is a product."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from recsys.errors import ConfigError
from recsys.models.modules import DotProduct


def score_spread(model: DotProduct) -> float:
    """Standard deviation of a user's scores over the items, as the root mean square over the users.

    Users with a row of zeros, who have no ratings, do not count, and neither does the range of the scores. It
    is computed from the tables' second moments.
    """
    users, items = (table[1:].detach().double() for table in (model.user_factors, model.item_factors))
    if users.any():
        users = users[users.any(dim=1)]
    items = items - items.mean(dim=0)
    second = users.T @ users / len(users)
    variance = float((items.T @ items / len(items) * second).sum())
    if model.item_biases is not None:
        biases = model.item_biases[1:, 0].detach().double()
        biases = biases - biases.mean()
        variance += float(biases.square().mean() + 2 * users.mean(dim=0) @ (items.T @ biases) / len(items))
    return math.sqrt(max(variance, 0.0)) or 1.0


def part_factors(models: Sequence[nn.Module], weights: Sequence[float]) -> list[float]:
    """What each part's scores are multiplied by before they are added: its weight over its spread; 1 for one.

    Raises:
        ConfigError: several parts, and one is not a product.
    """
    if len(models) == 1:
        return [1.0]
    factors = []
    for model, weight in zip(models, weights, strict=True):
        if not isinstance(model, DotProduct):
            raise ConfigError(
                "an mlp is no product of tables, so it can't rank beside other parts: train it by itself, or "
                "as the part that predicts ratings, without --rating-weight"
            )
        # As float32, which graphs hold: the last digits of float64 differ from one processor to the next.
        factors.append(float(np.float32(weight / score_spread(model))))
    return factors


def side_by_side(models: Sequence[nn.Module], weights: Sequence[float]) -> nn.Module:
    """The product whose scores are the sum of the parts' scores times `part_factors`; one part is itself.

    Ranges and users' biases do not order a user's list, and are left out.

    Raises:
        ConfigError: several parts, and one is not a product.
    """
    factors = part_factors(models, weights)
    if len(models) == 1 and getattr(models[0], "user_biases", None) is None:
        return models[0]
    users, items, biases = [], [], None
    for model, factor in zip(models, factors, strict=True):
        assert isinstance(model, DotProduct)
        users.append(factor * model.user_factors.detach().double())
        items.append(model.item_factors.detach())
        if model.item_biases is not None:
            scaled = factor * model.item_biases.detach().double()
            biases = scaled if biases is None else biases + scaled
    user_factors, item_factors = torch.cat(users, 1).float(), torch.cat(items, 1)
    (n_users, n_factors), n_items = user_factors.shape, len(item_factors)
    with torch.device("meta"):  # the tables are replaced
        product = DotProduct(
            n_users - 1, n_items - 1, n_factors, biases="none" if biases is None else "items"
        )
    tables: dict[str, Tensor] = {"user_factors": user_factors, "item_factors": item_factors}
    if biases is not None:
        tables["item_biases"] = biases.float()
    product.load_state_dict(tables, assign=True)
    return product.eval()
