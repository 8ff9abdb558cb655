"""Ask a trained module over numpy indices, in pieces that bound the memory."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

PAIRS_AT_ONCE = 1 << 17
"""The widest default MLP holds about a thousand float32 a pair: half a gigabyte."""


@torch.no_grad()
def score_pairs(model: nn.Module, user_index: np.ndarray, item_index: np.ndarray) -> np.ndarray:
    """Score pairs: int64 [N], int64 [N] -> float32 [N]. The model is used in the mode that it is in."""
    device = next(model.parameters()).device
    pieces = [
        model(torch.from_numpy(users).to(device), torch.from_numpy(items).to(device)).cpu().numpy()
        for users, items in zip(_pieces(user_index), _pieces(item_index), strict=True)
    ]
    return np.concatenate(pieces)


@torch.no_grad()
def rank_items(
    model: nn.Module, n_items: int, user_index: np.ndarray, exclude_item_indices: np.ndarray, k: int
) -> np.ndarray:
    """Rank the whole catalogue by scoring every pair: slow, and right for any module of the contract.

    Args:
        model: used in the mode that it is in.
        n_items: row 0 not counted.
        user_index: int64 [B].
        exclude_item_indices: int64 [B, E], 0-padded.
        k: length of the lists.

    Returns:
        int64 [B, k], best first; 0 where fewer than k items are left.
    """
    device = next(model.parameters()).device
    items = np.arange(1 + n_items)
    scores = score_pairs(model, np.repeat(user_index, 1 + n_items), np.tile(items, len(user_index)))
    block = torch.from_numpy(scores).to(device).reshape(len(user_index), 1 + n_items)  # [B, 1 + n_items]
    block.scatter_(1, torch.from_numpy(exclude_item_indices).to(device), -torch.inf)
    block[:, 0] = -torch.inf
    top = block.topk(min(k, n_items))
    indices: np.ndarray = top.indices.masked_fill(top.values == -torch.inf, 0).cpu().numpy()
    return np.pad(indices, [(0, 0), (0, k - indices.shape[1])])


def _pieces(index: np.ndarray) -> list[np.ndarray]:
    return np.split(index, range(PAIRS_AT_ONCE, len(index), PAIRS_AT_ONCE))
