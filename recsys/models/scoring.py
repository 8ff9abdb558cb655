"""Scores and top-k lists of a torch module for numpy indices, in chunks that bound the memory."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

ItemScorer = Callable[[Tensor], Tensor]
"""user_index int64 [B] -> scores float32 [B, 1 + n_items], in ratings."""

PAIRS_AT_ONCE = 1 << 17
"""The widest default MLP holds about a thousand float32 per pair: half a gigabyte."""


@torch.no_grad()
def score_pairs(model: nn.Module, user_index: np.ndarray, item_index: np.ndarray) -> np.ndarray:
    """Score pairs: int64 [N], int64 [N] -> float32 [N]. The model's mode (train or eval) is not changed."""
    device = next(model.parameters()).device
    pieces = [
        model(torch.from_numpy(users).to(device), torch.from_numpy(items).to(device)).cpu().numpy()
        for users, items in zip(_pieces(user_index), _pieces(item_index), strict=True)
    ]
    return np.concatenate(pieces)


def item_scorer(model: nn.Module, n_items: int) -> ItemScorer:
    """Return a function that scores all items for users; `n_items` leaves out row 0.

    It is the model's `item_scorer()` if it has one. Otherwise every pair is scored, which is slower.
    """
    own: Callable[[], ItemScorer] | None = getattr(model, "item_scorer", None)
    if own is not None:
        return own()
    device = next(model.parameters()).device
    items = torch.arange(1 + n_items, device=device)

    def score_pairs_of(user_index: Tensor) -> Tensor:
        pairs = model(user_index.repeat_interleave(1 + n_items), items.repeat(len(user_index)))
        scores: Tensor = pairs.reshape(len(user_index), 1 + n_items)
        return scores

    return score_pairs_of


@torch.no_grad()
def ranker(model: nn.Module, n_items: int) -> Callable[[np.ndarray, np.ndarray, int], np.ndarray]:
    """Return a function that ranks all items for users.

    Args:
        model: on any device; its mode (train or eval) is not changed.
        n_items: row 0 not counted.

    Returns:
        A function of users, int64 [B]; items to exclude, int64 [B, E], 0-padded; and the length k of the
        lists. It returns int64 [B, k], best first, 0-padded.
    """
    device = next(model.parameters()).device
    scorer = item_scorer(model, n_items)
    users_at_once = max(1, PAIRS_AT_ONCE // (1 + n_items))

    @torch.no_grad()
    def rank(user_index: np.ndarray, exclude_item_indices: np.ndarray, k: int) -> np.ndarray:
        lists = np.zeros((len(user_index), k), np.int64)
        for start in range(0, len(user_index), users_at_once):
            rows = slice(start, start + users_at_once)
            scores = scorer(torch.from_numpy(user_index[rows]).to(device))  # [b, 1 + n_items]
            scores.scatter_(1, torch.from_numpy(exclude_item_indices[rows]).to(device), -torch.inf)
            scores[:, 0] = -torch.inf
            top = scores.topk(min(k, n_items))
            found = top.indices.masked_fill(top.values == -torch.inf, 0)
            lists[rows, : found.shape[1]] = found.cpu().numpy()
        return lists

    return rank


def _pieces(index: np.ndarray) -> list[np.ndarray]:
    return np.split(index, range(PAIRS_AT_ONCE, len(index), PAIRS_AT_ONCE))
