"""Ranking of large catalogues in torch, against the obvious way."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from recsys.models.modules import DotProduct
from recsys.models.scoring import BLOCK, ITEMS_AT_ONCE, USERS_AT_ONCE, ranker, top_k


@pytest.mark.parametrize("n", [70 * BLOCK, 70 * BLOCK + 5, 10 * BLOCK])
def test_the_best_of_blocks_are_the_best_of_all(n: int) -> None:
    rows = np.random.default_rng(n).permuted(np.tile(np.arange(n), (6, 1)), axis=1)
    scores = torch.from_numpy(rows).float()
    scores[0, BLOCK : 2 * BLOCK] += n  # all in one block
    scores[1, -2:] += n  # behind the last whole block
    scores[2, 3:] = -torch.inf  # fewer than k are left
    values, indices = top_k(scores, 7)
    assert values.equal(scores.sort(dim=1, descending=True).values[:, :7])
    assert scores.gather(1, indices).equal(values)
    assert all(len(set(row)) == 7 for row in indices.tolist())


@pytest.mark.parametrize("biases", ["none", "items", "both"])
def test_a_large_catalogue_is_ranked_as_its_scores_say(biases: str) -> None:
    n_items, n_users = 2 * ITEMS_AT_ONCE + BLOCK + 3, USERS_AT_ONCE + 3
    torch.manual_seed(0)
    model = DotProduct(n_users, n_items, 5, (0.0, 5.0), biases=biases)  # type: ignore[arg-type]
    with torch.no_grad():
        for table in model.parameters():
            table.normal_()
    users = np.arange(1 + n_users)
    scores = model.item_scorer()(torch.from_numpy(users)).detach().double()
    exclude = scores.topk(4).indices.numpy()
    exclude[:, 2:] = np.random.default_rng(0).integers(0, n_items + 1, (len(users), 2))
    lists = ranker(model, n_items)(users, exclude, 10)
    scores.scatter_(1, torch.from_numpy(exclude), -1.0)
    scores[:, 0] = -1.0
    found = scores.gather(1, torch.from_numpy(lists))
    # A sigmoid in float32 makes ties, and changes scores by a few units in the last place.
    torch.testing.assert_close(found, scores.topk(10).values, rtol=0, atol=1e-5)
