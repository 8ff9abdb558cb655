"""Scores and top-k lists of a torch module for numpy indices, in chunks that bound the memory."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

ItemScorer = Callable[[Tensor], Tensor]
"""user_index int64 [B] -> scores float32 [B, 1 + n_items], in ratings."""

ItemOrderer = Callable[[Tensor, slice], Tensor]
"""user_index int64 [B], M rows of the item table -> float32 [B, M]; only the order in a row counts."""

PAIRS_AT_ONCE = 1 << 17
"""The widest default MLP holds about a thousand float32 per pair: half a gigabyte."""

USERS_AT_ONCE, ITEMS_AT_ONCE = 256, 1 << 13
"""Of a product: so few scores stay in the cache until the best of them are found. New memory for all scores,
and each further pass over them, would cost as much as the product."""

BLOCK = 64
"""Neighbouring items of which only the best score is looked at first."""


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
    orderer: Callable[[], ItemOrderer] | None = getattr(model, "item_orderer", None)
    if orderer is None:
        scorer = item_scorer(model, n_items)
        users_at_once, items_at_once = max(1, PAIRS_AT_ONCE // (1 + n_items)), 1 + n_items
    else:
        order = orderer()
        users_at_once, items_at_once = USERS_AT_ONCE, ITEMS_AT_ONCE

    @torch.no_grad()
    def rank(user_index: np.ndarray, exclude_item_indices: np.ndarray, k: int) -> np.ndarray:
        lists = np.zeros((len(user_index), k), np.int64)
        k = min(k, n_items)
        for start in range(0, len(user_index), users_at_once):
            rows = slice(start, start + users_at_once)
            users = torch.from_numpy(user_index[rows]).to(device)
            exclude = torch.from_numpy(exclude_item_indices[rows]).to(device)
            best = torch.full((len(users), k), -torch.inf, device=device)
            found = torch.zeros((len(users), k), dtype=torch.int64, device=device)
            for first in range(0, 1 + n_items, items_at_once):
                items = slice(first, min(first + items_at_once, 1 + n_items))
                scores = order(users, items) if orderer else scorer(users)  # [b, M]
                row, place = ((exclude >= first) & (exclude < items.stop)).nonzero(as_tuple=True)
                scores[row, exclude[row, place] - first] = -torch.inf
                if first == 0:
                    scores[:, 0] = -torch.inf
                better = (scores.amax(dim=1) > best[:, -1]).nonzero().squeeze(1)
                values, indices = top_k(scores[better], min(k, scores.shape[1]))
                values, places = torch.cat([best[better], values], dim=1).topk(k)
                indices = torch.cat([found[better], first + indices], dim=1).gather(1, places)
                best[better], found[better] = values, indices.masked_fill(values == -torch.inf, 0)
            lists[rows, :k] = found.cpu().numpy()
        return lists

    return rank


def top_k(scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k best of each row, best first: float32 [B, N] -> values float32 [B, k], indices int64 [B, k].

    The k best lie in the k blocks with the best maxima, and in what is left after the last whole block. The
    maxima take one pass over the scores; `Tensor.topk` alone takes longer than the product that made them.
    """
    n_rows, n = scores.shape
    n_blocks = n // BLOCK
    if n_blocks <= 4 * k:
        return scores.topk(k)
    whole = n_blocks * BLOCK
    maxima = scores[:, :whole].view(n_rows, n_blocks, BLOCK).amax(dim=2)  # [B, n_blocks]
    starts = maxima.topk(k, sorted=False).indices * BLOCK  # [B, k]
    inside = (starts[:, :, None] + torch.arange(BLOCK, device=scores.device)).flatten(1)  # [B, k * BLOCK]
    rest = torch.arange(whole, n, device=scores.device).expand(n_rows, -1)
    candidates = torch.cat([inside, rest], dim=1)
    best = scores.gather(1, candidates).topk(k)
    return best.values, candidates.gather(1, best.indices)


def _pieces(index: np.ndarray) -> list[np.ndarray]:
    return np.split(index, range(PAIRS_AT_ONCE, len(index), PAIRS_AT_ONCE))
