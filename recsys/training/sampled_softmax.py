"""Sampled softmax, the loss of the objective "ranking": which of a step's candidates did the user rate?

The candidates are the items of the step itself, mostly popular ones, and items drawn uniformly, so that every
item is among them at times (mixed negative sampling: Yang et al. 2020). From each score the logarithm of the
expected number of the item's places among the candidates is subtracted, for the rated item too (Bengio and
Senécal 2008; Yi et al. 2019), so that the optimum is that of the softmax over all items, however they are
sampled. The value of a rating does not matter.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

UNIFORM_NEGATIVES = 256
"""Items drawn uniformly for each step: as many as the default step has ratings."""


class Grid(nn.Module):
    """Scores of every user with every item as a forward pass, which torch can compile and make parallel."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, user_index: Tensor, item_index: Tensor) -> Tensor:
        """Score all pairs: int64 [B], int64 [M] -> float32 [B, M]."""
        scores: Tensor = self.model.score_grid(user_index, item_index)  # type: ignore[operator]
        return scores


@dataclass(frozen=True, eq=False)
class Candidates:
    """The candidates of the steps of an epoch. Every rank draws the same ones."""

    items: Tensor
    """int64 [n]: those with a training rating."""
    shares: Tensor
    """float32 [1 + n_items]: share of the training ratings."""
    generator: torch.Generator

    @classmethod
    def of(cls, item_index: Tensor, n_items: int, seed: int) -> Self:
        """From the items of the training ratings, int64 [n]."""
        counts = item_index.bincount(minlength=1 + n_items)
        generator = torch.Generator(item_index.device).manual_seed(seed)
        return cls(counts.nonzero().squeeze(1), counts / len(item_index), generator)

    def draw(self, item_index: Tensor) -> tuple[Tensor, Tensor]:
        """Candidates of a step: its items, int64 [n], and then uniform ones.

        Returns:
            int64 [n + UNIFORM_NEGATIVES], and the logarithm of how often each is expected there, float32.
        """
        places = torch.randint(
            len(self.items), (UNIFORM_NEGATIVES,), generator=self.generator, device=self.items.device
        )
        candidates = torch.cat([item_index, self.items[places]])
        expected = self.shares[candidates] * len(item_index) + UNIFORM_NEGATIVES / len(self.items)
        return candidates, expected.log()


def sampled_softmax(scores: Tensor, log_expected: Tensor, places: Tensor) -> Tensor:
    """Sum of the losses of a step's ratings.

    Other places of the rated item stay in: the loss asks for the place, of which each has its share.

    Args:
        scores: float [B, M], of each rating's user for each candidate.
        log_expected: float32 [M], see `Candidates.draw`.
        places: int64 [B], of each rating's own item among the candidates.

    Returns:
        float32 scalar (nats).
    """
    return cross_entropy(scores.float() - log_expected, places, reduction="sum")
